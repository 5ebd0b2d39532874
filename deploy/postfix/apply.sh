#!/bin/sh
# apply.sh lmtp|smtp: sets Postfix's parameters from lmtp/ or smtp/ beside this file, by postconf(1). It prints what main.cf
# said of them before, as commands that lead back: keep them. Postfix is not reloaded. `postconf` is told where main.cf is
# by $MAIL_CONFIG, as ever. `smtpguard init --from-postfix` does more: it reads what your relayhost was.
set -eu
door=${1-}
here=$(dirname "$0")
[ -f "$here/$door/main.cf" ] || { echo "usage: apply.sh lmtp|smtp" >&2; exit 2; }

# the settings of a file, without comments and empty lines
settings() { sed -n '/^[a-z]/p' "$1"; }

# a word for sh
quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }

echo "# the way back:"
settings "$here/$door/main.cf" | while IFS= read -r line; do
    name=${line%% =*}
    before=$(postconf -n "$name" 2>/dev/null)
    if [ -n "$before" ]; then echo "postconf -e $(quoted "$before")"; else echo "postconf -X $name"; fi
done
if [ "$door" = lmtp ]; then echo "postconf -MX smtpguard/unix"; fi
echo "postfix reload && postqueue -f"

if [ "$door" = lmtp ]; then
    # one line, as postconf -M takes it
    postconf -M "smtpguard/unix=$(sed -n '/^#/!p' "$here/lmtp/master.cf" | tr -s '\n ' '  ')"
fi
settings "$here/$door/main.cf" | while IFS= read -r line; do postconf -e "$line"; done
