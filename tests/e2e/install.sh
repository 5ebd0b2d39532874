#!/bin/sh
# Gets the MTAs of tests/e2e where they are missing: Postfix as a package, without a configuration, so that it does not
# run; Exim unpacked into .cache/exim, because Debian's two packages exclude each other. tests/packages.sh says what that
# needs.
. "$(dirname "$0")/../packages.sh"

install_postfix() {
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    # --no-remove: never in place of the MTA that this machine uses
    apt_get install --yes --no-install-recommends --no-remove postfix
}

unpack_exim() {
    fetch .cache/exim exim4-daemon-light exim4-base libnss-wrapper && unpack .cache/exim || return # libnss-wrapper: see exim.py
    # Not set-uid root as in the package: nobody shall become root by it, and the loader would not look beside it
    chmod u-s .cache/exim/root/usr/sbin/exim4 && done_with .cache/exim
}

has_postfix() { command -v postfix >/dev/null || [ -x /usr/sbin/postfix ]; }
has_exim() { [ -e .cache/exim/ready ]; }

has_postfix && has_exim && exit 0
can_install "real MTAs"
has_postfix || { say "installing Postfix (not configured, not started)"; install_postfix; } || say "no Postfix: $(why_not)"
has_exim || { say "unpacking Exim into .cache/exim"; unpack_exim; } || say "no Exim: $(why_not)"
exit 0
