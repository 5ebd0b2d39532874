#!/bin/sh
# Gets the name servers of tests/dns where they are missing: NSD, rbldnsd and unbound, unpacked into .cache/dns, so that no
# daemon is installed. Needs root, apt and a mirror. Never fails: the tests with servers that are not to be had are skipped.

cd "$(dirname "$0")/../.." || exit 0
export DEBIAN_FRONTEND=noninteractive

say() { echo "tests/dns: $*" >&2; }

# With what they need and this machine lacks
fetch() {
    apt-get -qq install --yes --no-install-recommends --download-only --reinstall \
        -o Dir::Cache::archives="$PWD/.cache/dns" nsd rbldnsd unbound >"$log" 2>&1
}

unpack() {
    rm -rf .cache/dns
    mkdir -p .cache/dns/partial .cache/dns/root
    fetch || { apt-get -qq update >"$log" 2>&1 && fetch; } || return
    for package in .cache/dns/*.deb; do dpkg -x "$package" .cache/dns/root || return; done
    rm -f .cache/dns/*.deb
    touch .cache/dns/ready
}

[ -e .cache/dns/ready ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "no root or no apt here: the tests with NSD, rbldnsd and unbound will be skipped"
    exit 0
fi
log=$(mktemp)
say "unpacking NSD, rbldnsd and unbound into .cache/dns"
unpack || say "not to be had: $(tail -n 1 "$log")"
rm -f "$log"
exit 0
