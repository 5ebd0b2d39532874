#!/bin/sh
# Gets the programs of tests/history where they are missing: Debian's PostgreSQL, its own cluster neither made nor started,
# and PgBouncer, unpacked into .cache/history, so that no daemon is installed. tests/packages.sh says what that needs.
. "$(dirname "$0")/../packages.sh"

has_postgres() { command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; }
has_pgbouncer() { [ -x /usr/sbin/pgbouncer ] || [ -e .cache/history/ready ]; }

install_postgres() {
    mkdir -p /etc/postgresql-common
    # a file that is there is not replaced: without it the package would make a cluster and start it
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    apt_get install --yes --no-install-recommends --no-remove -o Dpkg::Options::=--force-confold postgresql
}

unpack_pgbouncer() { fetch .cache/history pgbouncer && unpack .cache/history && done_with .cache/history; }

has_postgres && has_pgbouncer && exit 0
can_install "PostgreSQL and PgBouncer"
has_postgres || { say "installing PostgreSQL (no cluster made, not started)"; install_postgres; } || say "no PostgreSQL: $(why_not)"
has_pgbouncer || { say "unpacking PgBouncer into .cache/history"; unpack_pgbouncer; } || say "no PgBouncer: $(why_not)"
exit 0
