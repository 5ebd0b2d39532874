#!/bin/sh
# Gets the programs of tests/deploy where they are missing: HAProxy, and promtool of Debian's Prometheus, unpacked into
# .cache/deploy, so that no daemon is installed. tests/packages.sh says what that needs.
. "$(dirname "$0")/../packages.sh"

fetch_all() {
    fetch .cache/deploy haproxy liblua5.3-0 libopentracing1 libopentracing-c-wrapper0 &&
        (cd .cache/deploy && apt_get download prometheus) # without what its web pages need
}

[ -e .cache/deploy/ready ] && exit 0
can_install "HAProxy and promtool"
say "unpacking HAProxy and promtool into .cache/deploy"
fetch_all && unpack .cache/deploy && done_with .cache/deploy || say "not to be had: $(why_not)"
exit 0
