#!/bin/sh
# Everything that has to pass before a change lands:   sh tests/setup.sh all && sh tests/check.sh
# Arguments go to pytest. A test that is skipped for want of a tool counts as failed (tests/support/strictness.py).
set -u
cd "$(dirname "$0")/.." || exit
PATH=$PWD/.venv/bin:$PATH:/usr/sbin:/sbin
export PATH TUSD_PY_STRICT=1

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
step pytest -n 2 "$@"
[ -z "$failed" ] || {
    echo "check: FAILED:$failed" >&2
    exit 1
}
