#!/bin/sh
# Gets the name servers of tests/dns where they are missing: NSD, rbldnsd and unbound, unpacked into .cache/dns, so that no
# daemon is installed. tests/packages.sh says what that needs.
. "$(dirname "$0")/../packages.sh"

[ -e .cache/dns/ready ] && exit 0
can_install "NSD, rbldnsd and unbound"
say "unpacking NSD, rbldnsd and unbound into .cache/dns"
fetch .cache/dns nsd rbldnsd unbound && unpack .cache/dns && done_with .cache/dns || say "not to be had: $(why_not)"
exit 0
