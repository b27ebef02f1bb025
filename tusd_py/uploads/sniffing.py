"""Looking at the first bytes of an upload while they come, and refusing files that may not be uploaded before more is stored.

Which types are allowed is `protocol.types`'s; how a type is known by its bytes is the `Sniffer`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tusd_py.ports.body import Sink
from tusd_py.ports.datastore import Content, DataStore
from tusd_py.protocol.types import TypeRules, check_bytes, check_declared
from tusd_py.protocol.upload import Upload

__all__ = ["SNIFF_BYTES", "Sniffer", "SniffingSink", "TypeGate", "read_prefix"]

SNIFF_BYTES = 8192
"""How many of the first bytes are looked at, and at most kept for it: what tells a Word document from another zip file is
behind a few entries of some kilobytes; to look at more takes longer and hardly tells more."""


class Sniffer(Protocol):
    """Knows types by bytes. Called on the event loop and in threads, at the same time."""

    def sniff(self, head: bytes) -> str | None:
        """The media type of a file that begins so; None where it is unknown. Takes less than a millisecond; never raises."""


class TypeGate:
    """Which files may be uploaded. Without a sniffer only what is declared counts.

    Partial uploads are let through: clients declare nothing of them, and all but one begin in the middle of a file. The final
    is judged in their stead.
    """

    def __init__(self, rules: TypeRules, sniffer: Sniffer | None) -> None:
        self._rules, self._sniffer = rules, sniffer if rules.types else None

    def __repr__(self) -> str:
        return f"<TypeGate {self._rules} sniffer={self._sniffer!r}>"

    def check_declared(self, upload: Upload) -> None:
        """Raises `TypeNotAllowed`; at creation, before anything is made."""
        if not upload.is_partial:
            check_declared(upload.metadata, self._rules)

    def looks_at(self, upload: Upload) -> bool:
        """Whether the next bytes of this upload have to be looked at: some of the first are still to come."""
        return self._sniffer is not None and not upload.is_partial and upload.offset < _wanted(upload)

    def watch(self, upload: Upload, sink: Sink, prefix: bytes = b"") -> Sink:
        """A sink in the place of `sink` for a body that goes to `upload.offset`; `sink` itself where there is nothing to see.

        `prefix` is what the upload has already (`read_prefix`). A write raises `TypeNotAllowed` as soon as the file is known
        for what it is, which is when it has `SNIFF_BYTES` or all of its bytes; the sink has got none of those of that write.
        So no upload of a known length ever has all its bytes without having been judged.
        """
        if not self.looks_at(upload):
            return sink
        assert len(prefix) == upload.offset, "the prefix is all that there is of the upload"
        return SniffingSink(sink.write, lambda head: self._judge(head, upload), _wanted(upload), prefix)

    async def check_content(self, content: Content, upload: Upload) -> None:
        """Judge bytes that are there already: of an upload that became complete by a declaration, of a final's partials.

        Raises `TypeNotAllowed`, `StorageFailure`.
        """
        if self._sniffer is not None and not upload.is_partial:
            self._judge(await _read(content, SNIFF_BYTES), upload)

    def _judge(self, head: bytes, upload: Upload) -> None:
        assert self._sniffer is not None
        if head:
            check_bytes(self._sniffer.sniff(head), upload.metadata, self._rules)


class SniffingSink:
    """Passes bytes on, after a look at the first `wanted` ones, of which it keeps a copy until then."""

    __slots__ = ("_head", "_judge", "_wanted", "_write")

    def __init__(
        self,
        write: Callable[[bytes | bytearray | memoryview], None],
        judge: Callable[[bytes], None],
        wanted: int,
        prefix: bytes,
    ) -> None:
        self._write, self._judge, self._wanted = write, judge, wanted
        self._head: bytearray | None = bytearray(prefix)  # None once judged

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Raises `TypeNotAllowed`, and then has passed on nothing of `data`, nor will it later."""
        if self._head is not None:
            missing = self._wanted - len(self._head)
            if len(data) < missing:
                self._head += data
            else:
                with memoryview(data) as view:
                    self._judge(bytes(self._head) + view[:missing])
                self._head = None
        self._write(data)


async def read_prefix(data: DataStore, upload: Upload) -> bytes:
    """What there is of an upload of which the first bytes are still coming. Raises `UploadNotFound`, `StorageFailure`."""
    if not upload.offset:
        return b""
    content = await data.open_content(upload)
    try:
        return await _read(content, upload.offset)
    finally:
        await content.close()


async def _read(content: Content, count: int) -> bytes:
    found = b""
    while len(found) < count and (more := await content.read(len(found), count - len(found))):
        found += more
    return found


def _wanted(upload: Upload) -> int:
    return SNIFF_BYTES if upload.length is None else min(SNIFF_BYTES, upload.length)
