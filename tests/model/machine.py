"""Random requests, sent to a server and to the model at once; what they say has to be the same."""

from __future__ import annotations

import contextlib
import socket
import zlib
from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from tests.model.uploads import Body, Model, Upload, selected
from tests.support.server import ServerProcess
from tests.support.waiting import begin_patch, until, until_offset
from tests.support.wire import OFFSET_STREAM, Answer, Connection, b64, checksum, chunked, path_of
from tests.wire import stored

ALGORITHMS = ("sha1", "md5", "sha256", "sha512", "crc32")

small = st.binary(max_size=40)
# Larger than what is written on the event loop, than what is kept in memory, than the socket's buffers.
large = st.sampled_from([65_535, 65_537, 262_145, 1_200_000]).map(lambda size: (bytes(range(251)) * (size // 251 + 1))[:size])
payloads = st.one_of(small, small, small, small, small, large)
framings = st.sampled_from(["length", "length", "chunked", "length-cut", "chunked-cut"])
checks = st.sampled_from(
    ["none", "none", "none", "good", "wrong", "unknown", "trailer-good", "trailer-wrong", "trailer-missing"]
)
bodies = st.builds(Body, payloads, framings, checks).filter(
    lambda body: body.framing.startswith("chunked") or not body.check.startswith("trailer")
)
lengths = st.one_of(st.none(), st.integers(0, 60), st.sampled_from([0, 65_537, 300_000, 2_000_000]))
keys = st.text("abcdefghijklmnopqrstuvwxyz_-.0123456789", min_size=1, max_size=8)
metadata = st.dictionaries(keys, st.binary(max_size=12), max_size=3).map(
    lambda pairs: ",".join(f"{key} {b64(value)}" if value else key for key, value in pairs.items())
)
ranges = st.one_of(
    st.none(),
    st.builds("bytes={}-{}".format, st.integers(0, 50), st.integers(0, 50)),
    st.builds("bytes={}-".format, st.integers(0, 70_000)),
    st.builds("bytes=-{}".format, st.integers(0, 50)),
    st.sampled_from(["bytes=-", "bytes=0-99999999999999999999999", "lines=1-2", "bytes=0-0,5-6"]),
)


class TusMachine(RuleBasedStateMachine):
    """One example: its own uploads on a server that all examples share."""

    uploads = Bundle("uploads")

    def __init__(self, server: ServerProcess, max_size: int | None = None, *, expiry: bool = False) -> None:
        super().__init__()
        self.server, self.client = server, server.client()
        self.model = Model(max_size, expiry)
        self.connection: Connection | None = None
        self.touched: set[Upload] = set()

    # Sending

    def connect(self) -> Connection:
        """The connection that is kept between requests, as clients do."""
        if self.connection is None:
            self.connection = Connection(self.server.address)
        return self.connection

    def disconnect(self) -> None:
        if self.connection is not None:
            self.connection.sock.close()
            self.connection = None

    def request(
        self,
        method: str,
        path: str,
        headers: dict[str, object] | None = None,
        body: Body | None = None,
        *,
        override: bool = False,
    ) -> Answer:
        head = {**(headers or {})}
        if override and method in {"PATCH", "DELETE", "HEAD", "GET"}:
            head["X-HTTP-Method-Override"], method = method, "POST"
        raw = b""
        if body is not None:
            raw = _encode(body, head)
        elif method in {"POST", "PATCH"}:
            head["Content-Length"] = 0
        connection = self.connect()
        connection.send_head(method, path, head)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused while we were still sending
            connection.send(raw)
            if body is not None and body.framing.endswith("cut"):
                connection.sock.shutdown(socket.SHUT_WR)
        answer = connection.answer(method)
        note(f"{method} {path[-6:]} {_shown(head)} {len(raw)} bytes: {answer.status} {answer.body[:60]!r}")
        self.judge(answer)
        if answer.headers.get("connection") == "close" or (body is not None and body.framing.endswith("cut")):
            self.disconnect()
        return answer

    def judge(self, answer: Answer) -> None:
        """What holds for every answer."""
        assert answer.status < 500, (answer.status, answer.body)
        assert answer.headers["tus-resumable"] == "1.0.0", answer.all_headers
        assert answer.headers["x-content-type-options"] == "nosniff", answer.all_headers
        if answer.status >= 400 and answer.body:
            assert answer.body.startswith(b"ERR_") and answer.body.endswith(b"\n"), answer.body

    def judge_expiry(self, answer: Answer, upload: Upload) -> None:
        """X02 to X04: as long as there is something left to expire."""
        expected = self.model.expiry and not upload.finished
        assert ("upload-expires" in answer.headers) == expected, (upload, answer.all_headers)

    # Creation

    def created(self, answer: Answer, **facts: Any) -> Upload:
        upload = Upload(path_of(answer.headers["location"]), **facts)
        self.model.uploads.append(upload)
        self.model.settle()
        self.touched.add(upload)
        self.judge_expiry(answer, upload)
        expected = None if upload.is_final and not upload.finished else str(upload.offset)
        assert answer.headers.get("upload-offset") == expected, (upload, answer.all_headers)
        return upload

    @initialize(target=uploads)
    def options(self) -> Any:
        answer = self.request("OPTIONS", "/files/")
        assert answer.status == 200 and answer.headers["tus-version"] == "1.0.0"
        assert ("expiration" in answer.headers["tus-extension"].split(",")) == self.model.expiry
        assert answer.headers.get("tus-max-size") == (None if self.model.max_size is None else str(self.model.max_size))
        return multiple()

    @rule(target=uploads, length=lengths, partial=st.booleans(), header=metadata, body=st.one_of(st.none(), bodies))
    def create(self, length: int | None, partial: bool, header: str, body: Body | None) -> Any:
        head: dict[str, object] = {"Upload-Metadata": header}
        head.update({"Upload-Defer-Length": 1} if length is None else {"Upload-Length": length})
        if partial:
            head["Upload-Concat"] = "partial"
        if body is not None:
            head["Content-Type"] = OFFSET_STREAM
        answer = self.request("POST", "/files/", head, body)
        assert answer.status == self.model.create(length, body), (answer.status, answer.body)
        if answer.status != 201:
            assert "location" not in answer.headers
            return multiple()
        data = b"" if body is None else body.data
        concat = "partial" if partial else None
        return self.created(answer, length=length, data=data, partial=partial, metadata=header, concat=concat)

    @rule(target=uploads, data=small)
    def create_partial(self, data: bytes) -> Any:
        """Partials that are finished at once, since finals need them."""
        return self.create(len(data), True, "", Body(data))

    @rule(target=uploads, parts=st.lists(uploads, min_size=1, max_size=4), header=metadata, absolute=st.booleans())
    def create_final(self, parts: list[Upload], header: str, absolute: bool) -> Any:
        start = f"http://{self.connect().host}" if absolute else ""
        concat = "final;" + " ".join(start + part.path for part in parts)
        answer = self.request("POST", "/files/", {"Upload-Concat": concat, "Upload-Metadata": header})
        assert answer.status == self.model.create_final(tuple(parts)), (answer.status, answer.body)
        if answer.status != 201:
            return multiple()
        return self.created(answer, length=None, parts=tuple(parts), concat=concat, metadata=header)

    # Appending

    @rule(
        upload=uploads,
        body=bodies,
        wrong=st.one_of(st.none(), st.none(), st.none(), st.integers(0, 60)),
        declared=st.one_of(st.none(), st.none(), st.integers(0, 80)),
        override=st.booleans(),
    )
    def append(self, upload: Upload, body: Body, wrong: int | None, declared: int | None, override: bool) -> None:
        self._append(upload, upload.offset if wrong is None else wrong, body, declared, override=override)

    @rule(
        upload=uploads,
        override=st.booleans(),
        beyond=st.sampled_from([b"", b"", b"x"]),
        check=st.sampled_from(["none", "good"]),
    )
    def append_the_rest(self, upload: Upload, override: bool, beyond: bytes, check: Any) -> None:
        """Exactly what is missing, so that uploads get finished; or a byte more, chunked."""
        rest = 5 if upload.length is None else min(upload.length - upload.offset, 70_000)
        body = Body(b"r" * rest + beyond, "chunked" if beyond else "length", check)
        self._append(upload, upload.offset, body, None, override=override)

    @rule(
        upload=uploads, body=st.builds(Body, st.sampled_from([b"", b"", b"y"]), st.sampled_from(["length", "chunked"]), checks)
    )
    def declare_what_is_there(self, upload: Upload, body: Body) -> None:
        """tuspy's last request: the length is what has come (D04)."""
        if body.framing == "chunked" or not body.check.startswith("trailer"):
            self._append(upload, upload.offset, body, upload.offset)

    def _append(self, upload: Upload, offset: int, body: Body, declared: int | None, *, override: bool = False) -> None:
        head: dict[str, object] = {"Upload-Offset": offset, "Content-Type": OFFSET_STREAM}
        if declared is not None:
            head["Upload-Length"] = declared
        before = upload.offset
        answer = self.request("PATCH", upload.path, head, body, override=override)
        expected = self.model.append(upload, offset, body, declared)
        assert answer.status == expected, f"expected {expected}, got {answer.status} {answer.body!r}"
        if answer.status == 204:
            assert answer.offset == upload.offset and not answer.body
            self.judge_expiry(answer, upload)
        if answer.status == 409:
            assert answer.offset == before
        self.touched.add(upload)

    @rule(
        upload=uploads, begin=st.binary(max_size=9), by=st.sampled_from(["HEAD", "PATCH", "DELETE"]), more=st.binary(max_size=9)
    )
    def take_over(self, upload: Upload, begin: bytes, by: str, more: bytes) -> None:
        """A PATCH stalls, and its client comes back on another connection (P19, H08, T04)."""
        room = (self.model.ceiling if upload.length is None else upload.length) - upload.offset
        if upload.deleted or upload.is_final or room <= len(begin) + len(more):
            return
        with begin_patch(self.client, upload.path, upload.offset, room if room < 99 else 99) as stalled:
            stalled.send(begin)
            assert self.model.append(upload, upload.offset, Body(begin, "chunked-cut"), None) == 400
            until_offset(self.client, upload.path, upload.offset)
            if by == "PATCH":
                self._append(upload, upload.offset, Body(more), None)
            elif by == "HEAD":
                self.head(upload, False)
            else:
                self.delete(upload, False)
            answer = stalled.answer("PATCH")
        assert (answer.status, answer.body.split(b":")[0]) == (400, b"ERR_UPLOAD_INTERRUPTED"), answer

    # The rest

    @rule(upload=uploads, override=st.booleans())
    def head(self, upload: Upload, override: bool) -> None:
        answer = self.request("HEAD", upload.path, override=override)
        assert answer.status == self.model.describe(upload), (answer.status, answer.body)
        if answer.status != 200:
            assert "upload-offset" not in answer.headers
            return
        for name, value in self.model.headers(upload).items():
            assert answer.headers.get(name) == value, (name, value, answer.all_headers)
        self.judge_expiry(answer, upload)

    @rule(upload=uploads, requested=ranges, override=st.booleans())
    def get(self, upload: Upload, requested: str | None, override: bool) -> None:
        answer = self.request("GET", upload.path, {"Range": requested} if requested else {}, override=override)
        expected = self.model.read(upload)
        if expected != 200:
            assert answer.status == expected, (answer.status, answer.body)
            return
        status, part = selected(requested, upload.offset)
        assert (answer.status, answer.body) == (status, upload.data[part])
        assert ("etag" in answer.headers) == upload.finished
        if status == 206:
            assert answer.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/{upload.offset}"

    @rule(upload=consumes(uploads), override=st.booleans(), twice=st.booleans())
    def delete_and_forget(self, upload: Upload, override: bool, twice: bool) -> None:
        self.delete(upload, override)
        if twice:
            self.delete(upload, override)

    @rule(upload=uploads, override=st.booleans())
    def delete(self, upload: Upload, override: bool) -> None:
        answers = []

        def deleted() -> bool:
            """A partial of a final that is being put together is kept until it is: 423, with Retry-After."""
            answers[:] = [self.request("DELETE", upload.path, override=override)]
            assert answers[0].status != 423 or (upload.partial and "retry-after" in answers[0].headers)
            return answers[0].status != 423

        until(deleted)
        assert answers[0].status == self.model.delete(upload)
        assert "upload-offset" not in answers[0].headers

    @rule(
        upload=uploads,
        version=st.sampled_from(["0.2.2", "1.0", "2.0.0", "x"]),
        method=st.sampled_from(["HEAD", "PATCH", "DELETE"]),
    )
    def another_version(self, upload: Upload, version: str, method: str) -> None:
        head: dict[str, object] = {"Tus-Resumable": version, "Upload-Offset": upload.offset, "Content-Type": OFFSET_STREAM}
        answer = self.request(method, upload.path, head)
        assert (answer.status, answer.headers["tus-version"]) == (412, "1.0.0")

    @rule(chance=st.integers(0, 31))
    def kill(self, chance: int) -> None:
        if chance == 7:
            self.disconnect()
            self.server.kill()
            self.server.start()
            self.client = self.server.client()
            note("killed and started again")

    # What holds at any time

    @invariant()
    def what_was_touched_is_as_the_model_has_it(self) -> None:
        for upload in self.touched:
            self.compare(upload)
        self.touched.clear()

    def compare(self, upload: Upload) -> None:
        """By a HEAD that interrupts nobody, and by the bytes on disk."""
        answer = self.client.request("HEAD", upload.path, tus=False)
        assert answer.status == self.model.describe(upload), (upload, answer.status)
        if answer.status == 200:
            expected = self.model.headers(upload)["upload-offset"]
            assert answer.headers.get("upload-offset") == expected, (upload, expected, answer.all_headers)
            if not upload.is_final:
                assert stored(self.server, upload.path) == upload.data

    def teardown(self) -> None:
        """Everything, read as a client reads it."""
        try:
            for upload in self.model.uploads:
                self.compare(upload)
                self.get(upload, None, False)
        finally:
            self.disconnect()


def _encode(body: Body, head: dict[str, object]) -> bytes:
    """The body's bytes on the wire; adds the headers that go with it."""
    algorithm = ALGORITHMS[len(body.data) % len(ALGORITHMS)]
    digest = _checksum(algorithm, body.data if body.check.endswith("good") else body.data + b"!")
    trailers = {}
    if body.check.startswith("trailer"):
        head["Trailer"] = "Upload-Checksum"
        trailers = {} if body.check == "trailer-missing" else {"Upload-Checksum": digest}
    elif body.check != "none":
        head["Upload-Checksum"] = "sha3 AAAA" if body.check == "unknown" else digest
    if body.framing.startswith("length"):
        head["Content-Length"] = body.announced
        return body.data
    head["Transfer-Encoding"] = "chunked"
    middle = len(body.data) // 3
    return chunked(body.data[:middle], body.data[middle:], trailers=trailers, end=body.framing == "chunked")


def _checksum(algorithm: str, data: bytes) -> str:
    return f"crc32 {b64(zlib.crc32(data).to_bytes(4, 'big'))}" if algorithm == "crc32" else checksum(algorithm, data)


def _shown(head: dict[str, object]) -> str:
    return " ".join(f"{name}={str(value)[:40]!r}" for name, value in head.items() if name != "Content-Type")
