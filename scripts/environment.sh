# shellcheck shell=sh
# Sourced by the other scripts; does nothing by itself. Finds or installs Python and Debian packages and creates the
# virtual environment, and logs each step to stderr. It must never write into a clone of another user, and what root
# starts must be readable to the unprivileged uid that the exporter switches to: for both it uses a copy under
# /var/cache.

umask 022
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX
export PIP_DISABLE_PIP_VERSION_CHECK=1

clone=$(cd "$(dirname "$0")/.." && pwd -P)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() {
    say "$*"
    exit 2
}
is_root() { [ "$(id -u)" -eq 0 ]; }

# Whether root is available through sudo, without a password prompt if there is no terminal.
can_become_root() {
    is_root || { command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; }
}
as_root() { if is_root; then "$@"; else sudo "$@"; fi; }

# Start the calling script again as root with its own arguments and the settings of pip and TLS.
restart_as_root() {
    kept=NODE_NAME,REQUIRE_REAL,CI,DAMAGED_WORLDS,LIBC_WORLDS,PIP_INDEX_URL,PIP_EXTRA_INDEX_URL,PIP_FIND_LINKS,PIP_CERT,PIP_CONFIG_FILE
    kept=$kept,GOPROXY,GOSUMDB,GOFLAGS,GOTOOLCHAIN,SSL_CERT_FILE,SSL_CERT_DIR,http_proxy,https_proxy,no_proxy
    exec sudo -H --preserve-env="$kept" "$clone/scripts/${0##*/}" "$@"
}

# Whether any user may read PATH: every directory above it must be accessible to others.
world_readable() {
    case $(stat -L -c %a "$1") in *[4567]) ;; *) return 1 ;; esac
    above=$(dirname "$(readlink -f "$1")")
    while :; do
        case $(stat -c %a "$above") in *[1357]) ;; *) return 1 ;; esac
        [ "$above" = / ] && return 0
        above=$(dirname "$above")
    done
}

installed() { dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

# Install the Debian packages that are missing. Their services are started neither now nor at the next boot: the tests
# start their own servers on their own ports.
need_packages() {
    missing=
    for package in "$@"; do
        if command -v dpkg-query >/dev/null && installed "$package"; then continue; fi
        missing="$missing $package"
    done
    [ -z "$missing" ] && return
    command -v apt-get >/dev/null || fail "this machine has no apt-get. Please install the contents of these Debian packages:$missing"
    can_become_root || fail "neither root nor sudo is available. Please run: apt-get install$missing"
    say "installing Debian packages:$missing"
    # shellcheck disable=SC2086  # a list of names
    as_root sh -s $missing <<'ROOT' || fail "apt-get could not install them (its output is above)"
set -eu
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"; fi
trap 'rm -f "$log" $policy' EXIT
apt() { apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1; }
if ! apt install --no-install-recommends "$@"; then
    # The package lists are empty or old. They are fetched only now, because it is slow.
    { apt update && apt install --no-install-recommends "$@"; } || { cat "$log" >&2; exit 1; }
fi
if [ -n "$policy" ] && command -v systemctl >/dev/null; then
    for package; do
        dpkg -L "$package" | sed -n 's,^/\(usr/\)\?lib/systemd/system/\([^/@]*\.service\)$,\2,p'
    done | xargs -r systemctl --quiet disable 2>/dev/null || true
fi
ROOT
}

# A Python that is new enough, can create environments, and (for root) is readable by every user. Debian's own comes
# first.
usable_python() {
    [ -x "$1" ] && "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        { ! is_root || world_readable "$("$1" -c 'import os, sys; print(os.path.realpath(sys.executable))')"; }
}
find_python() {
    for candidate in /usr/bin/python3 /usr/bin/python3.14 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 \
        "$(command -v python3 || true)" "$(command -v python3.11 || true)"; do
        if usable_python "$candidate"; then
            python=$candidate
            return 0
        fi
    done
    return 1
}
need_python() {
    find_python && return
    if [ ! -x /usr/bin/python3 ] || /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        need_packages python3 python3-venv
    else
        say "$(/usr/bin/python3 --version) is too old: 3.11 or newer is needed"
        need_packages python3.11 python3.11-venv
    fi
    find_python || fail "no usable Python >= 3.11 (with venv) found"
}

# Set `tree` (the directory of the sources and the environment) and `venv`. For root, a clone of another user or in a
# private directory is copied to where the unprivileged uid can read it.
choose_tree() {
    tree=$clone
    if is_root && { [ "$(stat -c %u "$clone")" -ne 0 ] || ! world_readable "$clone/exporter/__init__.py"; }; then
        tree=/var/cache/dualstack-exporter/$(printf %s "$clone" | cksum | cut -d' ' -f1)
        mkdir -p "$tree"
    fi
    venv=$tree/.venv
}
copy_clone() {
    [ "$tree" = "$clone" ] && return
    say "this clone is private or belongs to another user: working in a copy, $tree"
    find "$tree" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
    tar -C "$clone" --exclude=./.venv --exclude=__pycache__ --exclude='./.*_cache' --mode=go+rX,go-w -cf - . |
        tar -C "$tree" --no-same-owner -xf -
}

# make_environment run|dev: install the locked packages, by hash, and the exporter; again only if one of them has
# changed.
make_environment() {
    kind=$1
    choose_tree
    exec 9<"$tree"
    flock 9 # two scripts must not build the same environment at once
    if [ -x "$venv/bin/python" ] && ! usable_python "$venv/bin/python"; then
        say "the Python of $venv is gone, too old or private: creating it again"
        rm -rf "$venv"
    fi
    # In a dev environment the package is a link to the sources; for `run` it is a copy and must be updated.
    cd "$clone" || exit
    dev=$(cat pyproject.toml requirements*.lock | sha256sum)
    run=$(find pyproject.toml requirements.lock requirements-build.lock exporter -type f ! -path '*/__pycache__/*' -print0 |
        sort -z | xargs -0 sha256sum | sha256sum)
    if [ "$kind" = dev ]; then copy_clone; fi
    if [ "$kind" = run ] && [ "$tree" != "$clone" ]; then rm -f "$venv/stamp-dev"; fi # the linked copy may be older than the clone
    if [ "$(cat "$venv/stamp-dev" 2>/dev/null)" != "$dev" ] &&
        { [ "$kind" = dev ] || [ "$(cat "$venv/stamp-run" 2>/dev/null)" != "$run" ]; }; then
        need_python
        if [ "$kind" = run ]; then copy_clone; fi
        cd "$tree" || exit
        if [ ! -x "$venv/bin/python" ]; then
            say "creating a virtual environment with $("$python" --version) in $venv"
            "$python" -m venv "$venv"
        fi
        rm -f "$venv"/stamp-*
        if [ "$kind" = dev ]; then lock=requirements-dev.lock package='--editable .'; else lock=requirements.lock package=.; fi
        say "installing the packages of $lock, hashes checked"
        "$venv/bin/python" -m pip install --quiet --quiet --require-hashes --requirement requirements-build.lock \
            --requirement "$lock" || fail "pip could not install them (its output is above)"
        # shellcheck disable=SC2086  # an option and its value
        "$venv/bin/python" -m pip install --quiet --quiet --no-deps --no-build-isolation --force-reinstall $package
        rm -rf build/lib build/bdist.* # setuptools would otherwise install removed modules from it
        if [ "$kind" = dev ]; then stamp=$dev; else stamp=$run; fi
        printf '%s\n' "$stamp" >"$venv/stamp-$kind"
    fi
    cd "$tree" || exit
    exec 9<&-
}
