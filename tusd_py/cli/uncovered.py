"""tusd's flags that this version does not cover. Each is known, so that what it asks for is refused instead of going missing.

A flag that asks for nothing is accepted: a switch that is off, an empty name, and the fine tuning of something that only
another flag switches on (`-s3-part-size` without `-s3-bucket`), which tusd would ignore as well.
"""

from __future__ import annotations

from collections.abc import Mapping

from tusd_py.cli.values import parse_bool
from tusd_py.settings import SettingsError

__all__ = ["INSTEAD", "UNCOVERED", "check_uncovered", "is_boolean"]

# name: what it asks for. None: nothing by itself. A name in SWITCHES is a boolean flag.
UNCOVERED: Mapping[str, str | None] = {
    "enable-experimental-protocol": "the IETF draft protocol",
    "s3-bucket": "storage in S3",
    "s3-object-prefix": None,
    "s3-endpoint": None,
    "s3-part-size": None,
    "s3-min-part-size": None,
    "s3-max-buffered-parts": None,
    "s3-concurrent-part-uploads": None,
    "s3-disable-content-hashes": None,
    "s3-disable-ssl": None,
    "s3-transfer-acceleration": None,
    "s3-log-api-calls": None,
    "gcs-bucket": "storage in Google Cloud Storage",
    "gcs-object-prefix": None,
    "gcs-endpoint": None,
    "azure-storage": "storage in Azure",
    "azure-container-access-type": None,
    "azure-blob-access-tier": None,
    "azure-object-prefix": None,
    "azure-endpoint": None,
    "expose-pprof": "profiles in Go's format",
    "pprof-path": None,
    "pprof-block-profile-rate": None,
    "pprof-mutex-profile-rate": None,
}

_OBJECTS = "keep uploads in -upload-dir, and let a post-finish hook copy what is complete"

# What to use, for each of those that ask for something.
INSTEAD: Mapping[str, str] = {
    "enable-experimental-protocol": "clients speak tus 1.0, in tus-js-client with protocol 'tus-v1', which is its default",
    "s3-bucket": _OBJECTS,
    "gcs-bucket": _OBJECTS,
    "azure-storage": _OBJECTS,
    "expose-pprof": "use py-spy on the process",
}

SWITCHES = frozenset(
    {
        "enable-experimental-protocol",
        "expose-pprof",
        "s3-disable-content-hashes",
        "s3-disable-ssl",
        "s3-log-api-calls",
        "s3-transfer-acceleration",
    }
)


def is_boolean(name: str) -> bool:
    return name in SWITCHES


def check_uncovered(given: Mapping[str, str]) -> None:
    """Raises `SettingsError` at the first flag that asks for something there is not, ValueError for a malformed switch."""
    for name, text in given.items():
        wanted = UNCOVERED[name]
        asks = parse_bool(text) if is_boolean(name) else bool(text)
        if asks and wanted is not None:
            raise SettingsError(f"-{name} asks for {wanted}, which this version does not support: {INSTEAD[name]}")
