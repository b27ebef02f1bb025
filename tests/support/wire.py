"""A raw HTTP/1.1 client: it sends exactly the bytes it is told and shows exactly what came back."""

from __future__ import annotations

import base64
import hashlib
import socket
from dataclasses import dataclass, field
from typing import Self

OFFSET_STREAM = "application/offset+octet-stream"

Headers = dict[str, object] | list[tuple[str, object]] | None


@dataclass
class Answer:
    """One response. Header names are lower-case; of repeated headers `headers` has the last and `all_headers` all."""

    status: int
    reason: str
    all_headers: list[tuple[str, str]]
    body: bytes = b""
    interim: list[tuple[int, dict[str, str]]] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.all_headers)

    @property
    def offset(self) -> int | None:
        value = self.headers.get("upload-offset")
        return None if value is None else int(value)

    @property
    def text(self) -> str:
        return self.body.decode()


class Connection:
    """A TCP (or unix) connection to a server. Every wait is bounded by `timeout` seconds."""

    def __init__(self, address: tuple[str, int] | str, timeout: float = 15.0) -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(address)
            self.host = "localhost"
        else:
            self.sock = socket.create_connection(address, timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.host = f"{address[0]}:{address[1]}"
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_head(self, method: str, target: str, headers: Headers = None, *, tus: bool = True) -> None:
        """Send a request head. `Host` and, unless `tus` is false, `Tus-Resumable` are added where they are missing."""
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
        names = {name.lower() for name, _ in pairs}
        if "host" not in names:
            pairs.insert(0, ("Host", self.host))
        if tus and "tus-resumable" not in names:
            pairs.append(("Tus-Resumable", "1.0.0"))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8"))

    def request(
        self,
        method: str,
        target: str,
        headers: Headers = None,
        body: bytes | None = None,
        *,
        tus: bool = True,
    ) -> Answer:
        """Send a whole request and read the answer. Content-Length is added where the method usually has a body."""
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
        names = {name.lower() for name, _ in pairs}
        framed = names & {"content-length", "transfer-encoding"}
        if not framed and (body is not None or method in {"POST", "PATCH"}):
            pairs.append(("Content-Length", len(body or b"")))
        self.send_head(method, target, pairs, tus=tus)
        if body:
            self.send(body)
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        """Read one response; interim (1xx) ones are collected in it."""
        interim: list[tuple[int, dict[str, str]]] = []
        while True:
            head = self._until(b"\r\n\r\n")
            first, *rest = head.decode("utf-8", "surrogateescape").split("\r\n")
            _, status, *reason = first.split(" ", 2)
            pairs = [(name.strip().lower(), value.strip()) for name, value in (line.split(":", 1) for line in rest if line)]
            if 100 <= int(status) < 200:
                interim.append((int(status), dict(pairs)))
                continue
            answer = Answer(int(status), reason[0] if reason else "", pairs, interim=interim)
            answer.body = self._body(answer, method)
            return answer

    def _body(self, answer: Answer, method: str) -> bytes:
        headers = answer.headers
        if method == "HEAD" or answer.status in (204, 304):
            return b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while size := int(self._until(b"\r\n").split(b";")[0], 16):
                body += self._exactly(size)
                self._until(b"\r\n")
            self._until(b"\r\n")
            return body
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        return self.until_closed()

    def _more(self) -> bool:
        data = self.sock.recv(1 << 16)
        self.buffer += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            if not self._more():
                raise ConnectionError(f"closed while waiting for {mark!r}; got {self.buffer!r}")
        found, self.buffer = self.buffer.split(mark, 1)
        return found

    def _exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            if not self._more():
                raise ConnectionError(f"closed {count - len(self.buffer)} bytes early")
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found

    def until_closed(self) -> bytes:
        """Everything up to the end of the connection (a reset counts as one)."""
        try:
            while self._more():
                pass
        except ConnectionResetError:
            pass
        found, self.buffer = self.buffer, b""
        return found

    def is_closed(self) -> bool:
        """Whether the server closes the connection within the timeout without sending anything more."""
        return self.until_closed() == b""


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def checksum(algorithm: str, data: bytes) -> str:
    """An Upload-Checksum value, by hashlib."""
    return f"{algorithm} {b64(hashlib.new(algorithm, data).digest())}"


def chunked(*pieces: bytes, trailers: dict[str, str] | None = None, end: bool = True) -> bytes:
    """A chunked body of these pieces, one chunk each."""
    data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
    if end:
        lines = [f"{name}: {value}\r\n".encode() for name, value in (trailers or {}).items()]
        data += b"0\r\n" + b"".join(lines) + b"\r\n"
    return data


class TusClient:
    """The few requests that most tests begin with. Every request goes over a connection of its own unless one is given."""

    def __init__(self, address: tuple[str, int] | str, base: str = "/files/") -> None:
        self.address, self.base = address, base

    def connect(self, timeout: float = 15.0) -> Connection:
        return Connection(self.address, timeout)

    def request(
        self, method: str, target: str, headers: Headers = None, body: bytes | None = None, *, tus: bool = True
    ) -> Answer:
        with self.connect() as connection:
            return connection.request(method, target, headers, body, tus=tus)

    def create(self, length: int | None = None, body: bytes | None = None, **headers: object) -> str:
        """POST an upload; returns its path. Keyword `upload_metadata=...` becomes a header."""
        pairs = {name.replace("_", "-"): value for name, value in headers.items()}
        if length is not None:
            pairs["Upload-Length"] = length
        elif not any(name.lower() in {"upload-defer-length", "upload-concat"} for name in pairs):
            pairs["Upload-Defer-Length"] = 1
        if body is not None:
            pairs["Content-Type"] = OFFSET_STREAM
        answer = self.request("POST", self.base, pairs, body)
        assert answer.status == 201, (answer.status, answer.body)
        return path_of(answer.headers["location"])

    def patch(self, path: str, offset: int, body: bytes, **headers: object) -> Answer:
        pairs: dict[str, object] = {"Upload-Offset": offset, "Content-Type": OFFSET_STREAM}
        pairs.update({name.replace("_", "-"): value for name, value in headers.items()})
        return self.request("PATCH", path, pairs, body)

    def head(self, path: str, **headers: object) -> Answer:
        return self.request("HEAD", path, {name.replace("_", "-"): value for name, value in headers.items()})

    def offset(self, path: str) -> int:
        answer = self.head(path)
        assert answer.status == 200 and answer.offset is not None, (answer.status, answer.all_headers)
        return answer.offset

    def get(self, path: str, **headers: object) -> Answer:
        return self.request("GET", path, {name.replace("_", "-"): value for name, value in headers.items()}, tus=False)

    def delete(self, path: str) -> Answer:
        return self.request("DELETE", path)


def path_of(location: str) -> str:
    """The path of an absolute or relative URL."""
    return "/" + location.split("://", 1)[1].split("/", 1)[1] if "://" in location else location
