#!/bin/sh
# Gets the PostgreSQL of tests/history where it is missing: Debian's package, its own cluster neither made nor started.
# Needs root, apt and a mirror. Never fails: the tests that need a server are skipped where there is none.

export DEBIAN_FRONTEND=noninteractive

say() { echo "tests/history: $*" >&2; }

# apt_get ARGUMENTS: once as it is, once more with fresh package lists
apt_get() {
    apt-get -qq "$@" >"$log" 2>&1 && return
    apt-get -qq update >>"$log" 2>&1 && apt-get -qq "$@" >>"$log" 2>&1
}

has_postgres() { command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; }

install_postgres() {
    mkdir -p /etc/postgresql-common
    # a file that is there is not replaced: without it the package would make a cluster and start it
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    apt_get install --yes --no-install-recommends --no-remove -o Dpkg::Options::=--force-confold postgresql
}

has_postgres && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "no root or no apt here: the tests with PostgreSQL will be skipped"
    exit 0
fi
log=$(mktemp)
say "installing PostgreSQL (no cluster made, not started)"
install_postgres || say "no PostgreSQL: $(tail -n 1 "$log")"
rm -f "$log"
exit 0
