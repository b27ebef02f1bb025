#!/bin/sh
# Everything that has to pass before a change lands:   sh tests/setup.sh all && sh tests/check.sh
# Arguments go to pytest. A test that is skipped for want of a tool counts as failed (tests/support/strictness.py).
set -u
cd "$(dirname "$0")/.." || exit
PATH=$PWD/.venv/bin:$PATH:/usr/sbin:/sbin
export PATH TUSD_PY_STRICT=1
# Whatever the environment says: a thousand servers and commands are started, and each would compile all that it imports.
unset PYTHONDONTWRITEBYTECODE

command -v .venv/bin/pytest >/dev/null || {
    echo "check: the tools are not installed; run: sh tests/setup.sh all" >&2
    exit 1
}

failed=
step() {
    echo "check: $*"
    "$@" || failed="$failed $1"
}

step ruff check --quiet .
step mypy
step lint-imports
# More at once than there may be cores, for tests wait for servers and disks half of the time. Who has nothing left to do takes
# over from others: the longest tests are next to each other, and one process would be left with all of them.
step pytest -n 4 --dist worksteal "$@"
[ -z "$failed" ] || {
    echo "check: FAILED:$failed" >&2
    exit 1
}
