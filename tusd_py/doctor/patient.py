"""The server under examination: how to reach it, the uploads that were made there, and who was seen in between."""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin, urlsplit

from tusd_py.doctor.findings import Finding, Level, advice, layer_of
from tusd_py.doctor.http1 import Answer, Exchange, NoAnswer, connect

__all__ = ["OFFSET_STREAM", "Options", "Patient", "Unreachable", "target", "told"]

OFFSET_STREAM = "application/offset+octet-stream"


class Unreachable(Exception):
    """There is no tus server to examine. The message is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`url` is where uploads are created. `pause` and `timeout` in seconds, `rate` in bytes a second, `largest` in bytes."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    insecure: bool = False
    http2: bool = False
    timeout: float = 10.0
    pause: float = 3.0
    rate: int = 2 << 20
    largest: int = 8 << 30


@dataclass
class Patient:
    options: Options
    findings: list[Finding] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    extensions: frozenset[str] = frozenset()
    announced = False  # whether OPTIONS was answered by a tus server
    missing: set[str] = field(default_factory=set)  # what other examinations would need: "PATCH", "offsets"
    limit: int | None = None  # of a body, in bytes, once it is known
    _contexts: dict[tuple[str, ...], ssl.SSLContext] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.base = _checked(self.options.url)

    @property
    def url(self) -> str:
        return self.base.geturl()

    def context(self, *protocols: str) -> ssl.SSLContext | None:
        """For connections that are to speak one of `protocols`. Made once: it reads all certificates that the system trusts."""
        if self.base.scheme != "https":
            return None
        if protocols not in self._contexts:
            context = ssl.create_default_context()
            if self.options.insecure:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(list(protocols))
            self._contexts[protocols] = context
        return self._contexts[protocols]

    # What was found

    def ok(self, subject: str, sentence: str) -> None:
        self.findings.append(Finding(subject, Level.OK, sentence))

    def note(self, subject: str, sentence: str) -> None:
        self.findings.append(Finding(subject, Level.NOTE, sentence))

    def problem(self, subject: str, sentence: str, about: str | None = None) -> None:
        """With what to do about it: that of the subject, or `about` another."""
        self.findings.append(Finding(subject, Level.PROBLEM, sentence, advice(about or subject, self.layers)))

    # Requests

    def headers(self, *more: tuple[str, str], tus: bool = True) -> list[tuple[str, str]]:
        given = {name.lower() for name, _ in more}
        version = [("Tus-Resumable", "1.0.0")] if tus else []
        own = [pair for pair in (*version, *self.options.headers) if pair[0].lower() not in given]
        return [("Host", self.base.netloc.rpartition("@")[2]), ("User-Agent", "tusd-py-doctor"), *own, *more]

    def open(self) -> Exchange:
        """A connection for one request. Raises OSError."""
        return Exchange(
            connect(self.base, context=self.context("http/1.1"), timeout=self.options.timeout), self.options.timeout
        )

    def request(self, method: str, url: str, *headers: tuple[str, str], body: bytes | None = None, tus: bool = True) -> Answer:
        """A request and its answer. Raises `NoAnswer`, or OSError where there is no connection."""
        more = list(headers)
        if body is not None or method in ("POST", "PATCH"):
            more.append(("Content-Length", str(len(body or b""))))
        with self.open() as exchange:
            exchange.send_head(method, target(url), self.headers(*more, tus=tus))
            with suppress(BrokenPipeError, ConnectionResetError):  # answered before the end: the answer says why
                if body:
                    exchange.send(body)
                exchange.end()
            return self.seen(exchange.answer())

    def seen(self, answer: Answer) -> Answer:
        layer = layer_of(answer.headers)
        if layer is not None and layer not in self.layers:
            self.layers.append(layer)
        return answer

    # Uploads

    def create(self, length: int, *headers: tuple[str, str]) -> str:
        """A new upload's URL, as it can be reached from here. Raises `NoAnswer` if there is none."""
        answer = self.request("POST", self.url, ("Upload-Length", str(length)), *headers)
        location = answer.header("location")
        if answer.status != 201 or location is None:
            raise NoAnswer(f"an upload of {length} bytes is refused: {told(answer)}")
        return self.adopt(location)

    def adopt(self, location: str) -> str:
        """Remember an upload, to remove it later. Whatever `Location` says, it is looked for behind the public address."""
        found = urlsplit(urljoin(self.url, location))
        url = found._replace(scheme=self.base.scheme, netloc=self.base.netloc).geturl()
        if not found.path.startswith(self.base.path):
            url = self.url.rstrip("/") + "/" + found.path.rstrip("/").rsplit("/", 1)[1]
        self.uploads.append(url)
        return url

    def head(self, url: str) -> Answer:
        return self.request("HEAD", url)

    def offset(self, url: str) -> int | None:
        value = self.head(url).header("upload-offset")
        return int(value) if value is not None and value.isdecimal() else None

    def patch(self, url: str, offset: int, body: bytes, *headers: tuple[str, str]) -> Answer:
        fields = (("Upload-Offset", str(offset)), ("Content-Type", OFFSET_STREAM), *headers)
        return self.request("PATCH", url, *fields, body=body)

    def remove_uploads(self) -> tuple[str, ...]:
        """Delete all; those that are left."""
        return tuple(url for url in self.uploads if not self._removed(url))

    def _removed(self, url: str) -> bool:
        override = [("X-HTTP-Method-Override", "DELETE")]
        for method, headers in (("DELETE", []), ("POST", override)):
            with suppress(OSError):
                if self.request(method, url, *headers).status in (204, 404, 410):
                    return True
        return False


def target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def told(answer: Answer) -> str:
    """Status and the beginning of what was said, in one line; a page of HTML has nothing to say."""
    if answer.body.lstrip()[:1] == b"<":
        return f"{answer.status} and a page in HTML"
    text = " ".join(answer.body[:200].decode("utf-8", "replace").split())
    return f"{answer.status} {text}".strip()


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Unreachable(f"{url!r} is no address: expected one such as https://uploads.example.org/files/")
    return parts if parts.path.endswith("/") else parts._replace(path=parts.path + "/")
