#!/bin/sh
# apply.sh lmtp|mx|smtp FILE: sets Postfix's parameters from the folder beside this file, by postconf(1), and writes the
# commands that lead back, with what main.cf said before, to FILE, which must be new. Postfix is not reloaded. Where main.cf
# is: $MAIL_CONFIG, as ever. `smtpguard init --from-postfix` does more: it reads what your relayhost was.
set -eu
door=${1-} back=${2-}
here=$(dirname "$0")
if [ ! -f "$here/$door/main.cf" ] || [ -z "$back" ]; then
    echo "usage: apply.sh lmtp|mx|smtp FILE-FOR-THE-WAY-BACK" >&2
    exit 2
fi
if [ -e "$back" ]; then
    echo "apply.sh: $back is there already: it leads back from an earlier time, and is not written over" >&2
    exit 2
fi

# the settings of a file, without comments and empty lines
settings() { sed -n '/^[a-z]/p' "$1"; }

# a word for sh
quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }

{
    echo "# from smtpguard back to what was before; written by apply.sh $door"
    settings "$here/$door/main.cf" | while IFS= read -r line; do
        name=${line%% =*}
        before=$(postconf -n "$name" 2>/dev/null)
        if [ -n "$before" ]; then echo "postconf -e $(quoted "$before")"; else echo "postconf -X $name"; fi
    done
    if [ -f "$here/$door/master.cf" ]; then echo "postconf -MX smtpguard/unix"; fi
    echo "postfix reload && postqueue -f"
} >"$back"

if [ -f "$here/$door/master.cf" ]; then
    # one line, as postconf -M takes it
    postconf -M "smtpguard/unix=$(sed -n '/^#/!p' "$here/$door/master.cf" | tr -s '\n ' '  ')"
fi
settings "$here/$door/main.cf" | while IFS= read -r line; do postconf -e "$line"; done
