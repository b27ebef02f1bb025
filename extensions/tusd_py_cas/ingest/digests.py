"""SHA-256 and BLAKE3 of a whole content, computed beside everything else.

Both go through the bytes from the first to the last, so no more than one thread can work at them. Windows come in order, but
some may be left out: for as long as a content seems to be a known one, nobody needs its digests. What was left out is read
again as soon as a later window comes.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from queue import SimpleQueue
from threading import Thread

from blake3 import blake3

from tusd_py_cas.ingest.source import Source, SourceReader
from tusd_py_cas.ingest.threads import start_thread
from tusd_py_cas.ingest.windows import Window

__all__ = ["BothHashes", "Digests"]

PIECE = 256 << 10
"""Bytes that are hashed at a time: the second hash finds them in the processor's cache."""


class BothHashes:
    """BLAKE3 and SHA-256 of the same bytes."""

    def __init__(self) -> None:
        self._blake3, self._sha256 = blake3(), hashlib.sha256()

    def update(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            piece = view[start : start + PIECE]
            self._blake3.update(piece)
            self._sha256.update(piece)

    def digests(self) -> tuple[bytes, bytes]:
        """BLAKE3 and SHA-256."""
        return self._blake3.digest(), self._sha256.digest()


class Digests:
    """`begin`, `add` windows, then `finish`; or `add_now`, then `finish`. `close` in any case. `processor` is held while
    hashing."""

    def __init__(self, source: Source, processor: AbstractContextManager[object]) -> None:
        self._source, self._processor = source, processor
        self._hashes = BothHashes()
        self._position = 0
        self._windows: SimpleQueue[Window | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Start the thread, unless it runs. Raises `StorageFailure`."""
        if self._thread is None:
            thread = Thread(target=self._work, name="digests", daemon=True)
            start_thread(thread)
            self._thread = thread

    def add(self, window: Window) -> None:
        """Have a window hashed behind all earlier ones by the thread, which releases it. Does not wait."""
        self._windows.put(window)

    def add_now(self, window: Window) -> None:
        """The same in this thread."""
        try:
            self._update(window)
        except BaseException as error:
            self._error = self._error or error
        finally:
            window.release()

    def finish(self) -> tuple[bytes, bytes]:
        """BLAKE3 and SHA-256, once everything is hashed. Raises what went wrong: `StorageFailure` of the source."""
        self.close()
        if self._error is not None:
            raise self._error
        return self._hashes.digests()

    def close(self) -> None:
        """Wait until all windows are released. Idempotent."""
        if self._thread is not None:
            self._windows.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (window := self._windows.get()) is not None:
            self.add_now(window)

    def _update(self, window: Window) -> None:
        if self._error is not None:
            return
        if self._position < window.position:
            self._catch_up(window.position)
        with self._processor:
            self._hashes.update(window.bytes)
        self._position = window.end

    def _catch_up(self, position: int) -> None:
        buffer, reader = memoryview(bytearray(PIECE)), SourceReader(self._source)
        try:
            while self._position < position:
                piece = buffer[: min(PIECE, position - self._position)]
                reader.read_into(piece, self._position)
                with self._processor:
                    self._hashes.update(piece)
                self._position += len(piece)
        finally:
            reader.close()
