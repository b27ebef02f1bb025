#!/bin/sh
# Puts tusd-py, and nothing it does not need, into .venv:          sh tests/setup.sh
# The same, ready for development, with all that the tests need:   sh tests/setup.sh all
# Works from a bare Debian 12. Can be run again at any time. PYTHON=... chooses the interpreter (3.11 or newer).
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

say() { echo "setup: $*"; }
fail() {
    echo "setup: $*" >&2
    exit 1
}

apt_install() {
    command -v apt-get >/dev/null || fail "this system has no apt-get: install what Debian calls $*, then run this again"
    as_root=
    if [ "$(id -u)" != 0 ]; then
        as_root=sudo
        command -v sudo >/dev/null || fail "neither root nor sudo: have the Debian packages $* installed, then run this again"
    fi
    say "installing Debian packages: $*"
    # An unreachable third-party list makes the update complain; what counts is whether the packages can be installed.
    $as_root apt-get update -qq || say "apt-get update reported errors; going on"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >/dev/null ||
        fail "could not install the Debian packages $*"
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for python in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if is_new_enough "$python"; then
            return
        fi
    done
    return 1
}

make_venv() {
    if is_new_enough .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; then
        return
    fi
    if ! find_python; then
        [ -z "${PYTHON:-}" ] || fail "$PYTHON is not Python 3.11 or newer"
        apt_install python3 python3-venv
        find_python || fail "this system has no Python 3.11 or newer"
    fi
    # Debian keeps ensurepip in a package of its own.
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        apt_install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || fail "could not make the virtual environment .venv"
}

pip_install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c tests/constraints.txt "$@" ||
        fail "pip could not install: $*"
}

missing_packages() {
    for pair in curl:curl git:git mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs nginx:nginx-light node:nodejs npm:npm openssl:openssl \
        shellcheck:shellcheck strace:strace systemd-analyze:systemd; do
        command -v "${pair%%:*}" >/dev/null || echo "${pair##*:}"
    done
}

[ "${*:-}" = "" ] || [ "$*" = all ] || fail "the only argument is: all"
make_venv
pip_install pip # the distribution's knows neither --group nor --build-constraint
if [ "$#" = 0 ]; then
    say "installing tusd-py"
    pip_install --build-constraint tests/constraints.txt .
else
    say "installing tusd-py (editable) and the tools for tests"
    pip_install --build-constraint tests/constraints.txt --editable . --group lint --group test --group bench
    packages=$(missing_packages)
    # shellcheck disable=SC2086 # one word per package
    [ -z "$packages" ] || apt_install $packages
    say "installing the JavaScript clients"
    npm ci --prefix tests/interop --no-audit --no-fund --loglevel=error || fail "npm could not install the JavaScript clients"
fi
say "done: .venv/bin/tusd-py"
