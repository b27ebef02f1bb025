"""A client that sends one request of an upload: in which pieces, how framed, whether with a wrong checksum or cut by itself,
comes from a seeded generator. What was sent and what was answered goes into the ledger's record of the upload.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress

from tests.crash.ledger import Upload, demand
from tests.support.wire import OFFSET_STREAM, Answer, Connection, TusClient, b64, checksum, chunked, path_of

Headers = dict[str, object]

PIECES = (1, 17, 4096, 65_536, 200_000, 1 << 20, 3 << 20)
SLICES = (1, 1000, 16_384, 65_536, 1 << 20)


def exchange(tus: TusClient, method: str, path: str, headers: Headers, body: bytes) -> Answer:
    """A request whose answer may come, and the connection end, before the body is sent."""
    if "Transfer-Encoding" not in headers:
        headers = {**headers, "Content-Length": len(body)}
    with tus.connect() as connection:
        connection.send_head(method, path, {"Content-Type": OFFSET_STREAM, **headers})
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send(body)
        return connection.answer(method)


class OneClient:
    """Sends the next request of one upload. `tick` is called wherever it is interesting to stop the server. Once it is `deaf`,
    every answer is lost."""

    def __init__(
        self, tus: TusClient, upload: Upload, rng: random.Random, tick: Callable[[], None], deaf: threading.Event
    ) -> None:
        self.tus, self.upload, self.rng, self.tick, self.deaf = tus, upload, rng, tick, deaf
        self.last: Answer | None = None

    def step(self) -> None:
        upload = self.upload
        if not upload.path:
            if upload.parts:
                self._create_final()
            else:
                self._create()
        elif upload.unknown or upload.parts:
            self._ask()
        elif upload.kind == "doomed" and (self.rng.random() < 0.3 or upload.length == upload.offset):
            self._delete()
        else:
            self._patch()

    def _answer(self, connection: Connection, method: str) -> Answer:
        self.tick()
        self.last = answer = connection.answer(method)
        if self.deaf.is_set():
            raise ConnectionAbortedError("the answer came when the server was being stopped")
        self.tick()
        return answer

    def _create(self) -> None:
        upload = self.upload
        headers: Headers = {"Upload-Defer-Length": 1} if upload.deferred else {"Upload-Length": upload.length}
        headers["Upload-Metadata"] = f"filename {b64(upload.kind)}"
        if upload.partial:
            headers["Upload-Concat"] = "partial"
        body = upload.source[: self._piece()] if upload.kind == "with-upload" or self.rng.random() < 0.2 else None
        if body is not None and upload.verified:
            headers["Upload-Checksum"] = checksum("sha1", bytes(body))
        with self.tus.connect() as connection:
            if body is None:
                connection.send_head("POST", self.tus.base, {**headers, "Content-Length": 0})
            else:
                self._send("POST", self.tus.base, headers, body, connection)
            answer = self._answer(connection, "POST")
        stored = len(body or b"")
        demand(answer.status == 201 and (answer.offset or 0) == stored, f"creation with {stored} bytes", upload, answer)
        upload.path = path_of(answer.headers["location"])
        upload.note(f"201 {answer.offset}")
        upload.sent = stored
        upload.acknowledge(stored)

    def _create_final(self) -> None:
        upload = self.upload
        paths = " ".join(part.path for part in upload.parts)
        early = not all(part.complete for part in upload.parts)
        with self.tus.connect() as connection:
            connection.send_head("POST", self.tus.base, {"Upload-Concat": f"final;{paths}", "Content-Length": 0})
            answer = self._answer(connection, "POST")
        demand(answer.status == 201, "creation of a final upload", upload, answer)
        upload.path = path_of(answer.headers["location"])
        upload.note("201 early" if early else "201")
        upload.sent = upload.length
        if not early:
            upload.acknowledge(upload.length)

    def _ask(self) -> None:
        upload = self.upload
        with self.tus.connect() as connection:
            connection.send_head("HEAD", upload.path)
            answer = self._answer(connection, "HEAD")
        demand(answer.status == 200, "HEAD", upload, answer)
        upload.note(f"HEAD {answer.offset}")
        if upload.parts:
            self._judge_final(answer)
            return
        offset = answer.offset
        demand(offset is not None and max(upload.acked, upload.shown) <= offset <= upload.sent, "HEAD", upload, answer)
        demand(not upload.verified or offset in (upload.offset, upload.landing), "no verified boundary", upload, answer)
        upload.deferred = "upload-defer-length" in answer.headers
        upload.show(offset or 0)

    def _judge_final(self, answer: Answer) -> None:
        upload = self.upload
        demand(answer.offset in (None, upload.length), "HEAD of a final upload", upload, answer)
        if answer.offset == upload.length:
            upload.show(upload.length)
            return
        demand(not upload.finished, "a final upload is not complete any more", upload, answer)

    def _delete(self) -> None:
        upload = self.upload
        upload.deleting = True
        with self.tus.connect() as connection:
            connection.send_head("DELETE", upload.path)
            answer = self._answer(connection, "DELETE")
        demand(answer.status == 204, "DELETE", upload, answer)
        upload.deleted = True

    def _piece(self) -> int:
        size = self.rng.choice(PIECES)
        return min(self.rng.randint(1, size), self.upload.length - self.upload.offset)

    def _patch(self) -> None:
        upload = self.upload
        piece = upload.source[upload.offset : upload.offset + self._piece()]
        end = upload.offset + len(piece)
        headers: Headers = {"Upload-Offset": upload.offset}
        declares = upload.deferred and (end == upload.length or self.rng.random() < 0.1)
        if declares:
            headers["Upload-Length"] = upload.length
        if piece and self.rng.random() < 0.08:
            self._patch_and_hang_up(headers, piece)
        elif upload.verified:
            self._patch_verified(headers, piece)
        else:
            answer = self._exchange(headers, piece)
            if self._overtaken(answer):
                return
            demand(answer.status == 204 and answer.offset == end, f"PATCH to {end}", upload, answer)
            upload.deferred = upload.deferred and not declares
            upload.acknowledge(end)

    def _exchange(self, headers: Headers, body: bytes | memoryview) -> Answer:
        with self.tus.connect() as connection:
            self._send("PATCH", self.upload.path, headers, body, connection)
            answer = self._answer(connection, "PATCH")
        self.upload.note(f"{answer.status} {answer.offset}")
        return answer

    def _overtaken(self, answer: Answer) -> bool:
        """A request that was given up can reach the server after those that its client sent later, and then counts as newer."""
        late = answer.status == 409 or (answer.status == 400 and "ERR_UPLOAD_INTERRUPTED" in answer.text)
        if not (self.upload.stale and late):
            return False
        self.upload.unknown = True
        return True

    def _patch_verified(self, headers: Headers, piece: memoryview) -> None:
        """A quarter of the pieces is wrong: other bytes than the digest is of, or another digest."""
        upload, end, wrong = self.upload, self.upload.offset + len(piece), self.rng.random() < 0.25
        body: bytes | memoryview = piece
        headers["Upload-Checksum"] = checksum("sha1", bytes(piece))
        if wrong and piece and self.rng.random() < 0.5:
            position = self.rng.randrange(len(piece))
            body = bytes(piece[:position]) + bytes([piece[position] ^ 0x40]) + bytes(piece[position + 1 :])
        elif wrong:
            headers["Upload-Checksum"] = checksum("sha1", bytes(piece) + b"!")
        upload.landing = upload.offset if wrong else end
        answer = self._exchange(headers, body)
        if self._overtaken(answer):
            upload.landing = upload.offset
        elif wrong:
            demand(answer.status == 460, "a wrong checksum was accepted", upload, answer)
        else:
            demand(answer.status == 204 and answer.offset == end, f"checksummed PATCH to {end}", upload, answer)
            upload.acknowledge(end)

    def _patch_and_hang_up(self, headers: Headers, piece: memoryview) -> None:
        """The client goes away in the middle of the body."""
        upload = self.upload
        upload.unknown = upload.stale = True
        some = piece[: self.rng.randrange(len(piece))]
        headers |= {"Content-Type": OFFSET_STREAM, "Content-Length": len(piece)}
        if upload.verified:
            headers["Upload-Checksum"] = checksum("sha1", bytes(piece))
        with self.tus.connect() as connection:
            connection.send_head("PATCH", upload.path, headers)
            self._send_body(some, connection)
        upload.note(f"hung up after {upload.offset}+{len(some)}")

    def _send(self, method: str, path: str, headers: Headers, body: bytes | memoryview, connection: Connection) -> None:
        """The head, then the body in slices; chunked now and then, and then perhaps with the checksum behind it."""
        headers = {**headers, "Content-Type": OFFSET_STREAM}
        chunks = self.rng.random() < 0.25
        trailers: dict[str, str] = {}
        if chunks and "Upload-Checksum" in headers and self.rng.random() < 0.5:
            trailers["Upload-Checksum"] = str(headers.pop("Upload-Checksum"))
            headers["Trailer"] = "Upload-Checksum"
        headers |= {"Transfer-Encoding": "chunked"} if chunks else {"Content-Length": len(body)}
        self.upload.note(f"{method} {self.upload.offset}+{len(body)}{' chunked' if chunks else ''}")
        self.tick()
        connection.send_head(method, path, headers)
        self._send_body(body, connection, chunks=chunks)
        if chunks:
            self.tick()
            connection.send(chunked(trailers=trailers))

    def _send_body(self, body: bytes | memoryview, connection: Connection, *, chunks: bool = False) -> None:
        upload, start = self.upload, self.upload.offset
        size = max(self.rng.choice(SLICES), len(body) // 30)
        for position in range(0, len(body), size):
            self.tick()
            piece = bytes(body[position : position + size])
            upload.sent = max(upload.sent, start + position + len(piece))
            connection.send(chunked(piece, end=False) if chunks else piece)
