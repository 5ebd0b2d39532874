#!/bin/sh
# Gets the PostgreSQL of tests/history where it is missing: Debian's package, its own cluster neither made nor started.
# tests/packages.sh says what that needs.
. "$(dirname "$0")/../packages.sh"

has_postgres() { command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; }

install_postgres() {
    mkdir -p /etc/postgresql-common
    # a file that is there is not replaced: without it the package would make a cluster and start it
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    apt_get install --yes --no-install-recommends --no-remove -o Dpkg::Options::=--force-confold postgresql
}

has_postgres && exit 0
can_install "PostgreSQL"
say "installing PostgreSQL (no cluster made, not started)"
install_postgres || say "no PostgreSQL: $(why_not)"
exit 0
