"""Hooks that are a web service (`-hooks-http`): the message is POSTed, the answer is JSON in tusd's form.

Network errors and 5xx are tried again, as tusd does; one time limit covers all attempts. Beyond tusd: events carry their id as
`Idempotency-Key`, and with a secret all messages are signed (`tusd_py.hooks.signature`).
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from tusd_py.hooks.answers import quoted
from tusd_py.hooks.signature import sign
from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.go_json import JsonError
from tusd_py.protocol.headers import is_media_type
from tusd_py.protocol.hook_messages import build_hook_message, go_canonical, parse_hook_answer, utf8_text
from tusd_py.protocol.hooks import HookAnswer, HookEvent, HookType

__all__ = ["WebHooks"]

MAX_CONNECTIONS = 100
"""To the service, of one server process. Calls beyond wait, within their time limit; a service that takes no more at once is
not helped by more connections."""

KEEP_ALIVE = 4.0
"""Seconds that an idle connection is kept. Common servers close theirs after 5, and a message sent into a connection that is
being closed costs an attempt and a backoff."""

MAX_REDIRECTS = 10
"""As Go's client."""

# Of the client's own request, or decided by ours: forwarding them would break the message.
_NOT_FORWARDED = frozenset(
    (
        *("connection", "expect", "host", "keep-alive", "te", "trailer", "upgrade"),
        *("content-length", "content-type", "transfer-encoding"),
    )
)


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    content_type: str | None
    body: bytes


class WebHooks:
    """POSTs to `url`. `attempts` counts all of them, `backoff` and `timeout` are seconds, `size_limit` bytes of an answer.

    `forward_headers` are names in the spelling they are to be sent in. Belongs to one event loop.
    """

    def __init__(
        self,
        url: str,
        types: frozenset[HookType],
        *,
        attempts: int = 3,
        backoff: float = 1.0,
        timeout: float = 15.0,
        size_limit: int = 5120,
        forward_headers: Iterable[str] = (),
        skip_verify: bool = False,
        secret: bytes | None = None,
    ) -> None:
        self.types = types
        target = URL(url)
        self._authorization = _basic(target)
        self._url = target.with_user(None)
        self._attempts, self._backoff, self._timeout = max(attempts, 1), backoff, timeout
        self._size_limit, self._skip_verify, self._secret = size_limit, skip_verify, secret
        names = [name.strip() for name in forward_headers]
        self._forward = [(name, go_canonical(name.encode())) for name in names if name and name.lower() not in _NOT_FORWARDED]
        self._proxy = proxy_for(str(self._url))
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<WebHooks {self._url}>"

    async def invoke(self, event: HookEvent) -> HookAnswer:
        message = build_hook_message(event)
        try:
            async with asyncio.timeout(self._timeout):
                reply = await self._deliver(event, message)
        except TimeoutError:
            raise HookFailure(f"the hook endpoint did not answer within {self._timeout:g} seconds") from None
        except (aiohttp.ClientError, OSError) as error:
            raise HookFailure(f"the hook endpoint could not be reached: {_why(error)}") from error
        return self._read(reply)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _deliver(self, event: HookEvent, message: bytes) -> _Reply:
        """The first reply that is no 5xx, else the last. Raises what the last attempt did."""
        message_id = event.id or f"msg_{secrets.token_hex(16)}"
        for attempt in range(1, self._attempts + 1):
            try:
                reply = await self._post(self._headers(event, message_id, message), message)
            except (aiohttp.ClientError, OSError) as error:
                if attempt == self._attempts or isinstance(error, aiohttp.InvalidURL):
                    raise
            else:
                if reply.status < 500 or attempt == self._attempts:
                    return reply
            await asyncio.sleep(self._backoff)
        raise AssertionError("there is at least one attempt")

    def _headers(self, event: HookEvent, message_id: str, message: bytes) -> CIMultiDict[str]:
        headers = CIMultiDict({"User-Agent": "tusd-py", "Accept-Encoding": "identity"})
        if self._authorization is not None:
            headers["Authorization"] = self._authorization
        for name, canonical in self._forward:
            values = event.request.headers.get(canonical)
            if values:
                headers.popall(name, None)
                headers.extend((name, _sendable(value)) for value in values)
        headers["Content-Type"] = "application/json"
        if event.id:
            headers["Idempotency-Key"] = event.id
        if self._secret is not None:
            headers.update(sign(self._secret, message_id, int(time.time()), message))
        return headers

    async def _post(self, headers: CIMultiDict[str], message: bytes) -> _Reply:
        if self._session is None:
            self._session = self._open()
        async with self._session.post(
            self._url, data=message, headers=headers, proxy=self._proxy, max_redirects=MAX_REDIRECTS
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > self._size_limit:
                    break
            return _Reply(response.status, response.headers.get("Content-Type"), bytes(body[: self._size_limit + 1]))

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS,
                keepalive_timeout=KEEP_ALIVE,
                ssl=not self._skip_verify,
                resolver=aiohttp.ThreadedResolver(),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(),  # `invoke` has the time limit
            auto_decompress=False,
        )

    def _read(self, reply: _Reply) -> HookAnswer:
        """What a reply says, or tusd's words for what is wrong with it."""
        if not 200 <= reply.status < 300:
            raise HookFailure(f"unexpected response code from hook endpoint ({reply.status}): {quoted(reply.body)}")
        if len(reply.body) > self._size_limit:
            raise HookFailure(f"hook response exceeded maximum size of {self._size_limit} bytes")
        if not reply.content_type:
            raise HookFailure("hook response does not contain the 'Content-Type: application/json' header")
        if not is_media_type(reply.content_type.encode("utf-8", "replace"), b"application/json"):
            raise HookFailure(
                f"expected hook response Content-Type to be application/json, but got '{quoted(reply.content_type.encode())}'"
            )
        try:
            return parse_hook_answer(reply.body)
        except JsonError as error:
            raise HookFailure(f"failed to parse hook response: {error}") from error


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _basic(url: URL) -> str | None:
    """User and password in a URL are credentials, as for Go's client; a forwarded Authorization takes their place."""
    if url.user is None:
        return None
    return "Basic " + base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()


def _sendable(value: str) -> str:
    """A header value as text whose UTF-8 are the bytes that came; bytes that are no UTF-8 are replaced."""
    return utf8_text(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def proxy_for(url: str) -> str | None:
    """The proxy that the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) names for a URL; for this machine none, as in Go."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if _is_loopback(host) or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = urllib.request.getproxies().get(parts.scheme)
    return None if not proxy else proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
