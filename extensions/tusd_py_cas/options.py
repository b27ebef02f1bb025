"""What can be set about content-addressed storage, and which values make no sense. Imported by every command: light."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tusd_py.ports.extension import Option

__all__ = ["DEFAULT_CHUNK_SIZE", "DEFAULT_LEVEL", "LEVELS", "OFF", "OPTIONS", "REPLACE", "check", "is_chunk_size"]

OFF, KEEP, REPLACE = "off", "keep", "replace"

DEFAULT_CHUNK_SIZE = 1 << 20
SMALLEST, LARGEST = 64 << 10, 4 << 20
"""Averages, in bytes. Smaller chunks are more rows in the index than they are worth; of larger ones, four times as long at
most, several are held in memory at once."""

DEFAULT_LEVEL = 3
LEVELS = range(1, 20)
"""zstd's. Those above want more window than readers of `Content-Encoding: zstd` need to have (RFC 9659), and more memory than a
background task may take."""

MAX_THREADS = 256
"""More than any machine has cores for are a slip of the finger."""

OPTIONS = (
    Option(
        name="cas",
        kind="choice",
        default=OFF,
        choices=(OFF, KEEP, REPLACE),
        bare=KEEP,
        help="Store finished uploads in chunks, without duplicates, and keep their files as well, or replace them.",
    ),
    Option(name="cas-level", kind="int", default=DEFAULT_LEVEL, help=f"Compression level of zstd, from 1 to {LEVELS[-1]}."),
    Option(
        name="cas-chunk-size",
        kind="size",
        default=DEFAULT_CHUNK_SIZE,
        help="Average size of chunks, a power of two from 64KiB to 4MiB; fixed at the first start with -cas.",
    ),
    Option(name="cas-threads", kind="int", default=0, help="Threads that cut and compress; 0 means one per core."),
    Option(
        name="cas-gc-interval",
        kind="duration",
        default=3600.0,
        help="How often what nothing refers to is looked for and removed; 0 means never.",
    ),
    Option(
        name="cas-gc-grace",
        kind="duration",
        default=86400.0,
        help="How long what nothing refers to is kept before it is removed.",
    ),
)


def is_chunk_size(size: int) -> bool:
    """Whether chunks may have so many bytes on average."""
    return SMALLEST <= size <= LARGEST and size & (size - 1) == 0


def check(values: Mapping[str, Any]) -> None:
    """Raises ValueError with a sentence for the first value that can't be."""
    for sentence in _objections(values):
        raise ValueError(sentence)


def _objections(values: Mapping[str, Any]) -> Iterator[str]:
    if values["cas-level"] not in LEVELS:
        yield f"-cas-level is {values['cas-level']}: expected a number from 1 to {LEVELS[-1]}"
    if not is_chunk_size(values["cas-chunk-size"]):
        yield f"-cas-chunk-size is {values['cas-chunk-size']}: expected a power of two from 64KiB to 4MiB"
    if not 0 <= values["cas-threads"] <= MAX_THREADS:
        yield f"-cas-threads is {values['cas-threads']}: expected a number from 1 to {MAX_THREADS}, or 0 for one per core"
