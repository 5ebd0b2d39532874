#!/bin/sh
# Gets the MTAs of tests/e2e where they are missing: Postfix as a package, without a configuration, so that it does not
# run; Exim unpacked into .cache/exim, because Debian's two packages exclude each other. Needs root, apt and a mirror.
# Never fails: the tests of an MTA that is not to be had are skipped.

cd "$(dirname "$0")/../.." || exit 0
export DEBIAN_FRONTEND=noninteractive

say() { echo "tests/e2e: $*" >&2; }

# apt_get ARGUMENTS: once as it is, once more with fresh package lists
apt_get() {
    apt-get -qq "$@" >"$log" 2>&1 && return
    apt-get -qq update >>"$log" 2>&1 && apt-get -qq "$@" >>"$log" 2>&1
}

install_postfix() {
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    # --no-remove: never in place of the MTA that this machine uses
    apt_get install --yes --no-install-recommends --no-remove postfix
}

unpack_exim() {
    rm -rf .cache/exim
    mkdir -p .cache/exim/partial .cache/exim/root
    # Only fetched, with what it needs and this machine lacks; libnss-wrapper: see exim.py
    apt_get install --yes --no-install-recommends --download-only -o Dir::Cache::archives="$PWD/.cache/exim" \
        exim4-daemon-light exim4-base libnss-wrapper || return
    for package in .cache/exim/*.deb; do dpkg -x "$package" .cache/exim/root || return; done
    # Not set-uid root as in the package: nobody shall become root by it, and the loader would not look beside it
    chmod u-s .cache/exim/root/usr/sbin/exim4 || return
    touch .cache/exim/ready
}

has_postfix() { command -v postfix >/dev/null || [ -x /usr/sbin/postfix ]; }
has_exim() { [ -e .cache/exim/ready ]; }

has_postfix && has_exim && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "no root or no apt here: the tests with real MTAs will be skipped"
    exit 0
fi
log=$(mktemp)
has_postfix || { say "installing Postfix (not configured, not started)"; install_postfix; } ||
    say "no Postfix: $(tail -n 1 "$log")"
has_exim || { say "unpacking Exim into .cache/exim"; unpack_exim; } || say "no Exim: $(tail -n 1 "$log")"
rm -f "$log"
exit 0
