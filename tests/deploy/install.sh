#!/bin/sh
# Gets the programs of tests/deploy where they are missing: HAProxy, and promtool of Debian's Prometheus, unpacked into
# .cache/deploy, so that no daemon is installed. Needs root, apt and a mirror. Never fails: the tests of a program that is
# not to be had are skipped.

cd "$(dirname "$0")/../.." || exit 0
export DEBIAN_FRONTEND=noninteractive

say() { echo "tests/deploy: $*" >&2; }

fetch() {
    apt-get -qq install --yes --no-install-recommends --download-only --reinstall \
        -o Dir::Cache::archives="$PWD/.cache/deploy" haproxy liblua5.3-0 libopentracing1 libopentracing-c-wrapper0 >"$log" 2>&1 &&
        (cd .cache/deploy && apt-get -qq download prometheus) >>"$log" 2>&1 # without what its web pages need
}

unpack() {
    rm -rf .cache/deploy
    mkdir -p .cache/deploy/partial .cache/deploy/root
    fetch || { apt-get -qq update >"$log" 2>&1 && fetch; } || return
    for package in .cache/deploy/*.deb; do dpkg -x "$package" .cache/deploy/root || return; done
    rm -f .cache/deploy/*.deb
    touch .cache/deploy/ready
}

[ -e .cache/deploy/ready ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "no root or no apt here: the tests with HAProxy and promtool will be skipped"
    exit 0
fi
log=$(mktemp)
say "unpacking HAProxy and promtool into .cache/deploy"
unpack || say "not to be had: $(tail -n 1 "$log")"
rm -f "$log"
exit 0
