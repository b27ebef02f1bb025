"""What a client knows about its uploads, and the check of a server's answers and files against it.

A client knows three things that no crash may contradict: what it has sent (a server can't have more), what was
acknowledged (a server can't have less), and what it has asked for. Everything here works on those; it knows nothing of
how the server stores an upload, but for one promise of the layout: `<upload-dir>/<id>` begins with the bytes up to the offset,
unless an extension has taken a finished upload over.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.support.wire import Answer, TusClient

POOL = random.Random("the bytes of all uploads").randbytes(12 << 20)


class Promise(Enum):
    """What a server must still have after it was stopped."""

    SHOWN = "every offset it has shown"  # a killed process
    ACKED = "every offset in a 201 or 204"  # a power cut under -durability=every-patch
    FINISHED = "uploads acknowledged as finished"  # a power cut under -durability=final
    NOTHING = "no upload at all"  # a power cut under -durability=none: what is there must be sound


@dataclass(eq=False)
class Upload:
    """One upload as its client sees it.

    `offset` is where it goes on, as far as the client knows (`unknown`: it has to ask). `acked` is the largest offset in a
    201 or 204, `shown` in the answer to a HEAD. `sent` counts the bytes that may have arrived at all.
    `verified` uploads send checksummed pieces only: `landing` is the offset behind a good piece that was sent as a
    whole and not answered yet, the only one besides `offset` at which such an upload may stand.
    """

    kind: str
    source: memoryview
    path: str = ""
    offset: int = 0
    acked: int = 0
    shown: int = 0
    sent: int = 0
    landing: int = 0
    unknown: bool = False
    stale: bool = False  # a request that its client gave up may still be on its way to this server, or be read by it
    verified: bool = False
    deferred: bool = False  # its length is not known to have been declared
    finished: bool = False  # acknowledged as finished
    deleting: bool = False
    deleted: bool = False
    partial: bool = False
    parts: tuple[Upload, ...] = ()
    checked: int = 0  # how often its bytes were compared since it was finished
    history: list[str] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.source)

    @property
    def id(self) -> str:
        return self.path.rsplit("/", 1)[1]

    @property
    def complete(self) -> bool:
        """Nothing is left to be sent, whether the server has confirmed that or not."""
        return bool(self.path) and not self.unknown and self.offset == self.length and not self.deferred

    @property
    def unfinished(self) -> bool:
        """There is something left to do with it."""
        return not self.deleted and (not self.complete or self.kind == "doomed")

    @property
    def can_be_created(self) -> bool:
        """A final upload needs its parts to be there; unless it is an early one, they have to be complete too."""
        if self.kind == "early family":
            return all(part.path for part in self.parts)
        return all(part.complete for part in self.parts)

    def note(self, event: str) -> None:
        self.history.append(event)

    def acknowledge(self, offset: int) -> None:
        """A 201 or 204 has said that there are `offset` bytes."""
        self.offset = self.acked = self.landing = offset
        self.unknown = False
        self.finished = self.complete

    def show(self, offset: int) -> None:
        """A HEAD has said that there are `offset` bytes."""
        self.offset = self.shown = self.landing = offset
        self.sent = self.sent if self.stale else offset
        self.unknown = False

    def __repr__(self) -> str:
        state = " ".join(f"{name}={getattr(self, name)}" for name in ("length", "offset", "acked", "shown", "landing", "sent"))
        flags = " ".join(name for name in ("verified", "deferred", "finished", "deleting", "deleted") if getattr(self, name))
        return f"<{self.kind} {self.path or 'not created'} {state} {flags}: {' | '.join(self.history[-12:])}>"


def take_source(rng: random.Random, length: int) -> memoryview:
    """`length` bytes that no other place of the pool has."""
    start = rng.randrange(len(POOL) - length + 1)
    return memoryview(POOL)[start : start + length]


def digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


class Lost(AssertionError):
    """A promise was broken."""


def demand(condition: object, what: str, upload: Upload, answer: Answer | None = None) -> None:
    if not condition:
        got = "" if answer is None else f"\n  answer: {answer.status} {answer.headers} {answer.body[:300]!r}"
        raise Lost(f"{what}\n  upload: {upload}{got}")


class Audit:
    """Compares everything in a ledger with a server that was started anew on the same directory."""

    def __init__(self, client: TusClient, directory: Path, promise: Promise, *, taken_over: bool = False) -> None:
        self.client, self.directory, self.promise, self.taken_over = client, directory, promise, taken_over

    def check(self, uploads: list[Upload]) -> list[Upload]:
        """Check all; returns those that are still there. The others were allowed to go."""
        alive = [upload for upload in uploads if self._check(upload)]
        self._check_strangers({upload.id for upload in uploads})
        return alive

    def _check(self, upload: Upload) -> bool:
        answer = self.client.head(upload.path)
        demand(answer.status < 500, "HEAD answered 5xx after a crash", upload, answer)
        if answer.status in (404, 410):
            demand(self._may_be_gone(upload), "an acknowledged upload is gone", upload, answer)
            return False
        demand(answer.status == 200, "HEAD of an upload that should be there", upload, answer)
        demand(not upload.deleted or self.promise is not Promise.SHOWN, "a deleted upload came back", upload, answer)
        if upload.parts:
            self._check_final(upload, answer)
        else:
            self._check_plain(upload, answer)
        return True

    def _may_be_gone(self, upload: Upload) -> bool:
        if upload.deleting:
            return True
        return self.promise is Promise.NOTHING or (self.promise is Promise.FINISHED and not upload.finished)

    def _check_plain(self, upload: Upload, answer: Answer) -> None:
        demand(answer.offset is not None, "no Upload-Offset", upload, answer)
        offset = answer.offset or 0
        self._check_offset(upload, offset, answer)
        self._check_length(upload, answer)
        self._check_bytes(upload, offset)
        upload.stale = False
        upload.show(offset)
        upload.acked = min(upload.acked, offset)
        upload.finished = upload.complete
        upload.deleting = upload.deleted = False

    def _check_offset(self, upload: Upload, offset: int, answer: Answer) -> None:
        demand(offset <= upload.sent, "the offset is beyond what was sent", upload, answer)
        if upload.verified:
            demand(
                offset <= max(upload.offset, upload.landing),
                "bytes that were never verified became part of the upload",
                upload,
                answer,
            )
        if upload.deleting:
            return
        if self.promise in (Promise.SHOWN, Promise.ACKED):
            demand(offset >= upload.acked, "the offset is below what was acknowledged", upload, answer)
        if self.promise is Promise.SHOWN:
            demand(offset >= upload.shown, "the offset is below what a HEAD has shown", upload, answer)
            demand(not upload.verified or offset in (upload.offset, upload.landing), "no verified boundary", upload, answer)
        if upload.finished and self.promise is not Promise.NOTHING:
            demand(offset == upload.length, "a finished upload is not finished any more", upload, answer)

    def _check_length(self, upload: Upload, answer: Answer) -> None:
        declared = answer.headers.get("upload-length")
        if declared is not None:
            demand(int(declared) == upload.length, "the length is another one", upload, answer)
            upload.deferred = False
            return
        demand(answer.headers.get("upload-defer-length") == "1", "neither a length nor a deferred one", upload, answer)
        binding = self.promise in (Promise.SHOWN, Promise.ACKED) or (self.promise is Promise.FINISHED and upload.finished)
        demand(upload.deferred or (upload.kind == "deferred" and not binding), "the length is lost", upload, answer)
        upload.deferred = True

    def _check_bytes(self, upload: Upload, offset: int) -> None:
        if upload.finished:
            upload.checked += 1
            if upload.checked > 2:  # compared twice already; all are once more at the end
                return
        taken_over = self.taken_over and offset == upload.length
        data = stored_bytes(self.client, self.directory, upload, taken_over=taken_over)[:offset]
        demand(len(data) == offset, f"only {len(data)} of {offset} bytes are on disk", upload)
        if data != upload.source[:offset]:
            demand(False, f"the bytes on disk differ from {first_difference(data, upload.source)} on", upload)

    def _check_final(self, upload: Upload, answer: Answer) -> None:
        if answer.offset is None:
            must = upload.finished and self.promise is not Promise.NOTHING and not upload.deleting
            demand(not must, "a final upload is not complete any more", upload, answer)
            return
        demand(answer.offset == upload.length, "a final upload has an offset in its midst", upload, answer)
        self._check_length(upload, answer)
        got = self.client.get(upload.path)
        demand(got.status == 200, "GET of a final upload", upload, got)
        demand(got.body == upload.source, "a final upload has other bytes than its parts", upload)
        upload.show(upload.length)
        upload.finished = upload.finished or self.promise is Promise.SHOWN

    def _check_strangers(self, known: set[str]) -> None:
        """Uploads whose creation was never acknowledged may be there or not, but they break nothing."""
        for info in self.directory.glob("*.info"):
            if info.stem not in known:
                answer = self.client.head(f"{self.client.base}{info.stem}")
                stranger = Upload("never acknowledged", memoryview(b""), path=f"{self.client.base}{info.stem}")
                demand(answer.status in (200, 404, 410), "HEAD of an upload left by a crash", stranger, answer)


def first_difference(data: bytes | memoryview, expected: memoryview) -> int:
    low, high = 0, min(len(data), len(expected))
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if data[: middle + 1] == expected[: middle + 1] else (low, middle)
    return low


def stored_bytes(client: TusClient, directory: Path, upload: Upload, *, taken_over: bool) -> bytes:
    """What is in the upload's file. Where it may have been taken over, and there is none, or the empty one of a final that
    never had bytes of its own, what GET says."""
    try:
        data = (directory / upload.id).read_bytes()
        if data or not taken_over:
            return data
    except FileNotFoundError:
        demand(taken_over, "its file is gone", upload)
    got = client.get(upload.path)
    demand(got.status == 200, "GET of an upload that was taken over", upload, got)
    return got.body


def check_end(client: TusClient, directory: Path, uploads: list[Upload], *, taken_over: bool = False) -> None:
    """All that was finished has the SHA-256 of its source, by GET and on disk."""
    for upload in uploads:
        if upload.deleting:
            continue
        demand(upload.complete, "not everything was uploaded", upload)
        got = client.get(upload.path)
        demand(got.status == 200, "GET of a finished upload", upload, got)
        demand(digest(got.body) == digest(upload.source), "GET gives other bytes than were sent", upload)
        demand(
            digest(stored_bytes(client, directory, upload, taken_over=taken_over)) == digest(upload.source),
            "the file has other bytes than were sent",
            upload,
        )
