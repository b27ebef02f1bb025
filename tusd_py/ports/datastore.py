"""Where the bytes of uploads are. A store knows names and bytes; policy, offsets and locks are other people's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tusd_py.ports.body import Sink
from tusd_py.protocol.upload import Upload

__all__ = ["Content", "DataStore", "Extent", "PlainContent", "Writer"]

Extent = tuple[int, int, int]
"""A file descriptor, an offset in that file, and a number of bytes."""


class Writer(Sink, Protocol):
    """Writes one upload at an explicit position, never in append mode. Used by one request at a time, under the lock.

    A writer opened with `verified=False` keeps what it is given apart from the upload until `commit`: nobody can see
    those bytes, and when the process dies at any moment, all of them are part of the upload or none (Upload-Checksum).
    """

    @property
    def position(self) -> int:
        """Offset in the upload behind the last byte taken by `write`."""

    async def commit(self) -> None:
        """All bytes taken are part of the upload from now on. Raises `StorageFailure`; then none of an unverified writer is."""

    async def sync(self) -> None:
        """Return once the upload's bytes would survive a power cut. Concurrent calls share work. Raises `StorageFailure`."""

    async def rollback(self) -> None:
        """Make the upload end where this writer began. Never raises; a failure is logged, and the bytes stay."""

    async def close(self) -> None:
        """Let go of everything held; what was not committed by an unverified writer is dropped. Never raises; idempotent."""


class Content(Protocol):
    """The bytes of an upload opened for reading. A later removal of the upload does not disturb it."""

    @property
    def size(self) -> int:
        """Bytes there were at opening."""

    @property
    def version(self) -> str:
        """Changes whenever the bytes might have; safe inside an ETag: only letters, digits and `-`."""

    @property
    def modified(self) -> float:
        """When the bytes last changed, in seconds since the epoch."""

    @property
    def digests(self) -> Mapping[str, bytes]:
        """Digests of all the bytes, where they are known, by their names for Repr-Digest (`sha-256`; RFC 9530)."""

    @property
    def is_named_by_content(self) -> bool:
        """Whether `version` depends on nothing but the bytes, so that it is an ETag by itself, whatever upload they are of."""

    @property
    def encodings(self) -> Mapping[str, Content]:
        """The same bytes as they are stored in other content codings, by coding (`zstd`; RFC 9110, 8.4.1): contents of their
        own, with versions of their own, which need no closing. Only what is smaller than the bytes themselves."""

    def extents(self, offset: int, count: int) -> Sequence[Extent] | None:
        """Where these bytes are in files, in order, for zero-copy sending; None where they are in none. Valid until `close`."""

    async def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; empty at the end. Raises `StorageFailure`."""

    async def close(self) -> None:
        """Let go. Never raises; idempotent."""


class PlainContent:
    """What a `Content` says of itself that knows nothing but bytes."""

    __slots__ = ()

    @property
    def digests(self) -> Mapping[str, bytes]:
        return {}

    @property
    def is_named_by_content(self) -> bool:
        return False

    @property
    def encodings(self) -> Mapping[str, Content]:
        return {}


class DataStore(Protocol):
    """Bytes by upload. Every method may be called for different uploads at once; for one upload its caller holds the lock,
    except `open_content`, which anybody may call at any time."""

    def place(self, upload_id: str, path: str | None = None) -> Mapping[str, str]:
        """Where the bytes of a new upload are going to be, for `Upload.storage`. Makes nothing.

        `path` is a hook's wish; what it means is the store's business. Raises `StorageFailure` for one that can't be.
        """

    async def create(self, upload: Upload, *, verified: bool = True, fresh: bool = False) -> Writer:
        """Make an empty place for the bytes where `upload.storage` says; returns a writer at its beginning.

        `fresh` says that no upload had this id before, so that nothing left of one has to be looked for.

        Raises `UploadExists`, and then leaves that upload alone; `OutOfSpace`; `StorageFailure`.
        """

    async def open_writer(self, upload: Upload, *, verified: bool = True) -> Writer:
        """A writer at `upload.offset`; bytes beyond it, left by a crash, are cut first. Raises `StorageFailure`."""

    async def open_content(self, upload: Upload) -> Content:
        """Open for reading. Raises `UploadNotFound`, `StorageFailure`."""

    async def concatenate(
        self, final: Upload, partials: Sequence[Upload], *, durable: bool = True
    ) -> Mapping[str, str] | None:
        """Make `final` hold the bytes of `partials` in order, all at once: before it returns, the final is as it was.

        Returns what `final.storage` has to say from now on, None where it stays: then the record says it before anybody reads.

        With `durable`, the bytes would survive a power cut from the moment that they can be seen.

        Does not read the bytes into this process. May take time in proportion to the bytes; may be cancelled and called again.
        Raises `StorageFailure`.
        """

    async def sync(self, upload: Upload) -> None:
        """Return once the bytes would survive a power cut. Concurrent calls share work. Raises `StorageFailure`."""

    async def remove(self, upload: Upload) -> None:
        """Free the bytes. Nothing to free is no failure. Raises `StorageFailure`."""
