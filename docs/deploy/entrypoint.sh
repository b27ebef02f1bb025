#!/bin/sh
# What a container runs: tusd's entry point, for this server.
#
# UMASK sets the umask. For tusd's six credentials NAME_FILE names a file, such as a mounted secret, whose content becomes NAME:
# hooks may want them. Secrets of this server's own are files anyway: see the settings.
set -eu

fail() {
    echo "entrypoint: $*" >&2
    exit 1
}

# Turn NAME_FILE into NAME, if it is set.
from_file() {
    path=$(printenv "$1_FILE") || return 0
    [ -n "$path" ] || return 0
    [ -r "$path" ] || fail "$1_FILE names $path, which cannot be read"
    export "$1=$(cat -- "$path")"
    unset "$1_FILE"
}

if [ -n "${UMASK:-}" ]; then
    umask "$UMASK" || fail "UMASK is $UMASK: expected an octal number such as 0027"
fi

for name in AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION GCS_SERVICE_ACCOUNT_FILE AZURE_STORAGE_ACCOUNT \
    AZURE_STORAGE_KEY; do
    from_file "$name"
done

exec tusd-py "$@"
