# Debian packages for tests, installed or only unpacked into .cache: read by the install.sh of each folder. What cannot be
# had (no root, no apt, no mirror) is said, and its tests are skipped: nothing here fails.

cd "$(dirname "$0")/../.." || exit 0
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT

say() { echo "$(dirname "$0"): $*" >&2; }

# can_install WHAT: or its tests are skipped
can_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && return
    say "no root or no apt here: the tests with $1 will be skipped"
    exit 0
}

# apt_get ARGUMENTS: once as it is, once more with fresh package lists
apt_get() {
    apt-get -qq "$@" >"$log" 2>&1 && return
    apt-get -qq update >>"$log" 2>&1 && apt-get -qq "$@" >>"$log" 2>&1
}

# fetch FOLDER PACKAGES: with what they need and this machine lacks, into a new folder
fetch() {
    folder=$1 && shift
    rm -rf "$folder"
    mkdir -p "$folder/partial" "$folder/root"
    apt_get install --yes --no-install-recommends --download-only --reinstall \
        -o Dir::Cache::archives="$PWD/$folder" "$@"
}

# unpack FOLDER: what was fetched, below FOLDER/root
unpack() {
    for package in "$1"/*.deb; do dpkg -x "$package" "$1/root" || return; done
    rm -f "$1"/*.deb
}

# done_with FOLDER: it need not be fetched again
done_with() { touch "$1/ready"; }

why_not() { tail -n 1 "$log"; }
