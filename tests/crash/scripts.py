"""Requests whose system calls are made to fail one by one: what comes before, the request, and what may be seen after it.

After a fault the upload is as it was before the request or as it would be after it; of a body sent without a checksum, the
part that was stored may stay. Then what is left to do is done, and must come out right.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tests.crash.client import Headers, exchange
from tests.crash.ledger import digest, take_source
from tests.support.waiting import until
from tests.support.wire import Answer, TusClient, checksum, chunked, path_of

STATE = ".tusd-py"
EARLIER = 1000  # bytes that are there before the request under test


def seen(directory: Path) -> set[str]:
    """The names of files in an upload directory, apart from the server's own state, which changes while we look."""
    found: set[str] = set()
    for where, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if name != STATE]
        found.update(os.path.relpath(os.path.join(where, name), directory) for name in files)
    return found


@dataclass
class Script:
    """One run of one request. `act` is what happens under the fault; the rest is undisturbed."""

    tus: TusClient
    directory: Path
    rng: random.Random
    source: memoryview = field(init=False)
    path: str = ""
    before: set[str] = field(default_factory=set)
    complete: list[tuple[str, memoryview]] = field(default_factory=list)

    name: ClassVar[str]
    may_fail: ClassVar[bool] = True
    args: ClassVar[tuple[str, ...]] = ()
    length: ClassVar[int] = 20_000

    def __post_init__(self) -> None:
        self.source = take_source(self.rng, self.length)

    def prepare(self) -> None:
        """Bring about the state before."""

    def act(self) -> Answer:
        raise NotImplementedError

    def settle(self, answer: Answer | None) -> None:
        """Check the state after; `answer` is None when the connection ended without one. Then finish, and check again."""
        raise NotImplementedError

    def owes(self, call: str) -> bool:
        """Whether a success would say that what this call syncs is safe."""
        return True

    # What most scripts share

    def create(self, length: int | None = None, body: bytes | None = None, **headers: object) -> str:
        return self.tus.create(self.length if length is None else length, body, **headers)

    def offset_of(self, path: str) -> int:
        answer = self.tus.head(path)
        assert answer.status == 200 and answer.offset is not None, f"HEAD: {answer.status} {answer.headers}"
        return answer.offset

    def finish(self, path: str, source: memoryview, allowed: range | tuple[int, ...]) -> None:
        """The offset is one of those allowed and its bytes are right; then the rest goes there and all is compared."""
        offset = self.offset_of(path)
        assert offset in allowed, f"offset {offset} is none of {allowed}"
        stored = (self.directory / path.rsplit("/", 1)[1]).read_bytes()
        assert stored[:offset] == source[:offset], f"the first {offset} bytes on disk are others"
        if offset < len(source):
            answer = self.tus.patch(path, offset, bytes(source[offset:]))
            assert (answer.status, answer.offset) == (204, len(source)), f"resuming: {answer.status} {answer.body!r}"
        self.compare(path, source)

    def compare(self, path: str, source: memoryview) -> None:
        assert self.offset_of(path) == len(source), "not complete"
        got = self.tus.get(path)
        assert got.status == 200 and digest(got.body) == digest(source), f"GET: {got.status}, {len(got.body)} bytes"
        self.complete.append((path, source))


class Create(Script):
    name = "create"

    def prepare(self) -> None:
        self.before = seen(self.directory)

    def act(self) -> Answer:
        return self.tus.request("POST", self.tus.base, {"Upload-Length": self.length})

    def settle(self, answer: Answer | None) -> None:
        if answer is not None and answer.status == 201:
            self.finish(path_of(answer.headers["location"]), self.source, (0, answer.offset or 0))
        else:
            self.check_remains(answer)
        self.finish(self.create(), self.source, (0,))

    def check_remains(self, answer: Answer | None) -> None:
        """A refused creation leaves nothing. A killed one may leave an upload, as good as any other."""
        new = seen(self.directory) - self.before
        assert answer is None or not new, f"a refused creation has left {new}"
        for name in new:
            status = self.tus.head(self.tus.base + name.removesuffix(".info")).status
            assert status in (200, 404, 410), f"HEAD of what a killed creation has left: {status}"


class CreateFinished(Create):
    name = "create-with-all"
    act_length: ClassVar[int] = Script.length

    def act(self) -> Answer:
        headers = {"Upload-Length": self.length, **self.more_headers()}
        return exchange(self.tus, "POST", self.tus.base, headers, bytes(self.source[: self.act_length]))

    def more_headers(self) -> Headers:
        return {}


class CreateBegun(CreateFinished):
    name = "create-with-some"
    length = 900_000
    act_length = 600_000


class CreateVerified(CreateFinished):
    name = "create-with-checksum"

    def more_headers(self) -> Headers:
        return {"Upload-Checksum": checksum("sha1", bytes(self.source))}


class Patch(Script):
    """One PATCH behind the first `EARLIER` bytes, to `end`."""

    name = "patch"
    end: ClassVar[int] = 15_000

    def prepare(self) -> None:
        self.path = self.create()
        assert self.tus.patch(self.path, 0, bytes(self.source[:EARLIER])).status == 204

    @property
    def piece(self) -> bytes:
        return bytes(self.source[EARLIER : self.end])

    def act(self) -> Answer:
        return exchange(self.tus, "PATCH", self.path, {"Upload-Offset": EARLIER}, self.piece)

    def settle(self, answer: Answer | None) -> None:
        accepted = answer is not None and answer.status == 204
        self.finish(self.path, self.source, (self.end,) if accepted else range(EARLIER, self.end + 1))


class PatchSynced(Patch):
    name = "patch-synced"
    args = ("-durability=every-patch",)


class PatchLast(Patch):
    name = "patch-last"
    end = Script.length


class PatchLarge(Patch):
    name = "patch-large"
    length = end = 3_000_000


class PatchChunked(Patch):
    name = "patch-chunked"
    length = end = 400_000

    def act(self) -> Answer:
        pieces = [self.piece[start : start + 100_000] for start in range(0, len(self.piece), 100_000)]
        headers: Headers = {"Upload-Offset": EARLIER, "Transfer-Encoding": "chunked"}
        return exchange(self.tus, "PATCH", self.path, headers, chunked(*pieces))


class PatchVerified(Patch):
    """With a checksum there is nothing between before and after."""

    name = "patch-checksum"
    start: ClassVar[int] = EARLIER

    def act(self) -> Answer:
        piece = bytes(self.source[self.start : self.end])
        headers = {"Upload-Offset": self.start, "Upload-Checksum": checksum("sha1", piece)}
        return exchange(self.tus, "PATCH", self.path, headers, piece)

    def settle(self, answer: Answer | None) -> None:
        accepted = answer is not None and answer.status == 204
        self.finish(self.path, self.source, (self.end,) if accepted else (self.start, self.end))


class PatchVerifiedLarge(PatchVerified):
    name = "patch-checksum-large"
    length = end = 2_500_000


class PatchVerifiedWhole(PatchVerified):
    """The first bytes of an upload, and more than a server would like to keep in memory."""

    name = "patch-checksum-whole"
    length = end = 2_500_000
    start = 0

    def prepare(self) -> None:
        self.path = self.create()


class Declare(Patch):
    """The length comes with the last piece."""

    name = "declare"
    end = Script.length

    def prepare(self) -> None:
        self.path = self.tus.create(None, bytes(self.source[:EARLIER]))

    def act(self) -> Answer:
        return self.tus.patch(self.path, EARLIER, self.piece, upload_length=self.length)

    def settle(self, answer: Answer | None) -> None:
        accepted = answer is not None and answer.status == 204
        now = self.tus.head(self.path)
        if "upload-length" not in now.headers:
            assert not accepted, "a declared length is lost"
            declared = self.tus.patch(self.path, now.offset or 0, b"", upload_length=self.length)
            assert declared.status == 204, f"declaring the length again: {declared.status} {declared.body!r}"
        super().settle(answer)


class Concatenate(Script):
    """The final of two partials."""

    name = "concatenate"
    length = 300_000
    cut: ClassVar[int] = 100_000

    def prepare(self) -> None:
        self.pieces = (self.source[: self.cut], self.source[self.cut :])
        self.parts = [self.create(len(piece), bytes(piece), upload_concat="partial") for piece in self.pieces]
        self.before = seen(self.directory)

    def act(self) -> Answer:
        return self.tus.request("POST", self.tus.base, {"Upload-Concat": f"final;{' '.join(self.parts)}"})

    def settle(self, answer: Answer | None) -> None:
        for path, piece in zip(self.parts, self.pieces, strict=True):
            self.compare(path, piece)
        if answer is not None and answer.status == 201:
            self.await_final(path_of(answer.headers["location"]))
        else:
            self.check_remains(answer)
        again = self.act()
        assert again.status == 201, f"concatenating again: {again.status} {again.body!r}"
        self.await_final(path_of(again.headers["location"]))

    def await_final(self, path: str) -> None:
        """A final may be put together after its creation was answered."""
        until(lambda: self.tus.head(path).offset is not None, what="the final upload is never complete")
        self.compare(path, self.source)

    def check_remains(self, answer: Answer | None) -> None:
        new = seen(self.directory) - self.before
        assert answer is None or not new, f"a refused concatenation has left {new}"
        for name in new:
            path = self.tus.base + name.removesuffix(".info")
            left = self.tus.head(path)
            assert left.status in (200, 404, 410), f"HEAD of what a killed concatenation has left: {left.status}"
            if left.offset is not None:
                self.compare(path, self.source)


class FinishLastPart(Concatenate):
    """The final is there before the last bytes of its last partial."""

    name = "finish-last-part"

    def prepare(self) -> None:
        self.pieces = (self.source[: self.cut], self.source[self.cut :])
        first = self.create(self.cut, bytes(self.pieces[0]), upload_concat="partial")
        last = self.create(self.length - self.cut, bytes(self.pieces[1][:EARLIER]), upload_concat="partial")
        self.parts = [first, last]
        answer = super().act()
        assert answer.status == 201, f"{answer.status} {answer.body!r}"
        self.path = path_of(answer.headers["location"])

    def act(self) -> Answer:
        return self.tus.patch(self.parts[1], EARLIER, bytes(self.pieces[1][EARLIER:]))

    def owes(self, call: str) -> bool:
        """The final upload is made afterwards: whoever finishes a part need not know of it."""
        return self.parts[1].rsplit("/", 1)[1] in call

    def settle(self, answer: Answer | None) -> None:
        first, last = self.parts
        self.compare(first, self.pieces[0])
        end = self.length - self.cut
        accepted = answer is not None and answer.status == 204
        self.finish(last, self.pieces[1], (end,) if accepted else range(EARLIER, end + 1))
        self.await_final(self.path)


class Terminate(Patch):
    name = "terminate"

    def act(self) -> Answer:
        return self.tus.delete(self.path)

    def settle(self, answer: Answer | None) -> None:
        now = self.tus.head(self.path)
        if now.status == 200:
            assert answer is None or answer.status != 204, "terminated, and still there"
            self.finish(self.path, self.source, (EARLIER,))
            assert self.tus.delete(self.path).status == 204, "it can't be terminated any more"
        else:
            assert now.status in (404, 410), f"HEAD: {now.status}"
            assert self.tus.delete(self.path).status in (204, 404, 410)
        assert self.tus.head(self.path).status in (404, 410)
        assert not (self.directory / self.path.rsplit("/", 1)[1]).exists(), "the space is not freed"
        self.complete.clear()


class Head(Patch):
    """A HEAD may fail in no way that a client could take for the end of its upload."""

    name = "head"
    may_fail = False

    def act(self) -> Answer:
        return self.tus.head(self.path)

    def settle(self, answer: Answer | None) -> None:
        if answer is not None:
            assert answer.status in (200, 423), f"HEAD: {answer.status}"
            assert answer.status != 200 or answer.offset == EARLIER
        self.finish(self.path, self.source, (EARLIER,))


def _all(base: type[Script]) -> Iterator[type[Script]]:
    for script in base.__subclasses__():
        yield script
        yield from _all(script)


SCRIPTS: dict[str, type[Script]] = {script.name: script for script in _all(Script)}
