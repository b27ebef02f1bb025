"""Web services as hooks: a real one on loopback, which answers well, badly, late, too much or not at all."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.hooks.support import ALL, event, every_answer, until
from tusd_py.hooks.signature import SignatureError, verify
from tusd_py.hooks.webhook import WebHooks, proxy_for
from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.hook_messages import build_hook_answer, build_hook_message
from tusd_py.protocol.hooks import HookAnswer, HookType

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """A web service that notes what it is asked, and answers with `replies`, the last one for ever."""

    def __init__(self, *replies: web.Response | Handler) -> None:
        self.replies = replies or (web.json_response({}),)
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.peers: set[object] = set()
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        reply = self.replies[min(len(self.requests), len(self.replies) - 1)]
        self.requests.append(request)
        self.peers.add(request.transport and request.transport.get_extra_info("peername"))
        self.bodies.append(await request.read())
        if isinstance(reply, web.Response):
            return web.Response(status=reply.status, body=reply.body, headers=reply.headers)
        return await reply(request)


@asynccontextmanager
async def serving(service: Service, tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    service.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/hooks?x=1"
    try:
        yield service
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asking(service: Service, **options: Any) -> AsyncIterator[WebHooks]:
    async with serving(service):
        hooks = WebHooks(service.url, ALL, **{"backoff": 0.0, **options})
        try:
            yield hooks
        finally:
            await hooks.close()


def answering(data: bytes, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(status=status, body=data, headers={"Content-Type": content_type})


@every_answer
async def test_what_it_replies_is_the_answer(answer: HookAnswer) -> None:
    async with asking(Service(answering(build_hook_answer(answer)))) as hooks:
        assert await hooks.invoke(event()) == answer


async def test_it_is_told_in_tusds_json() -> None:
    service = Service()
    async with asking(service) as hooks:
        await hooks.invoke(event(HookType.PRE_CREATE))
    (request,) = service.requests
    assert (request.method, request.raw_path) == ("POST", "/hooks?x=1")
    assert service.bodies == [build_hook_message(event(HookType.PRE_CREATE))]
    assert request.headers["Content-Type"] == "application/json"
    assert "Idempotency-Key" not in request.headers and "webhook-id" not in request.headers
    assert "Authorization" not in request.headers


async def test_headers_are_forwarded_in_the_users_spelling() -> None:
    service = Service()
    async with asking(service, forward_headers=["AUTHORIZATION", " x-custom", "X-Text", "Missing", "", "Host"]) as hooks:
        await hooks.invoke(event())
    (request,) = service.requests
    raw = [(name, value) for name, value in request.raw_headers if name.lower() in (b"authorization", b"x-custom", b"x-text")]
    assert raw == [
        (b"AUTHORIZATION", b"Bearer abc"),
        (b"x-custom", b"1"),
        (b"x-custom", b"2"),
        (b"X-Text", "grün".encode()),
    ]
    assert request.headers["Host"].startswith("127.0.0.1:")


async def test_credentials_in_the_url_are_used_unless_others_are_forwarded() -> None:
    service = Service()
    async with serving(service):
        url = service.url.replace("http://", "http://me:pa%20ss@")
        for forward in ((), ("Authorization",)):
            hooks = WebHooks(url, ALL, forward_headers=forward)
            await hooks.invoke(event())
            await hooks.close()
    assert [request.headers["Authorization"] for request in service.requests] == ["Basic bWU6cGEgc3M=", "Bearer abc"]
    assert "pa" not in repr(hooks)


async def test_events_carry_their_id_over_all_attempts() -> None:
    service = Service(answering(b"", 500), answering(b"{}"))
    async with asking(service) as hooks:
        await hooks.invoke(event(event_id="e1"))
    assert [request.headers["Idempotency-Key"] for request in service.requests] == ["e1", "e1"]


SECRET = b"0123456789abcdef"


async def test_messages_are_signed_where_there_is_a_secret() -> None:
    service = Service(answering(b"", 503), answering(b"{}"))
    async with asking(service, secret=SECRET) as hooks:
        await hooks.invoke(event(event_id="e1"))
        await hooks.invoke(event(HookType.PRE_FINISH))
    ids = [verify(SECRET, request.headers, body) for request, body in zip(service.requests, service.bodies, strict=True)]
    assert ids[:2] == ["e1", "e1"]
    assert ids[2].startswith("msg_")
    with pytest.raises(SignatureError):
        verify(SECRET, service.requests[0].headers, service.bodies[2])


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (answering(b"why", 400, "text/plain"), "unexpected response code from hook endpoint (400): why"),
        (answering(b"", 304), "unexpected response code from hook endpoint (304): "),
        (answering(b"x" * 6000, 404), "unexpected response code from hook endpoint (404): " + "x" * 5120),
        (answering(b" " * 5119 + b"{}"), "hook response exceeded maximum size of 5120 bytes"),
        (answering(b""), "failed to parse hook response: no JSON: Expecting value: line 1 column 1 (char 0)"),
        (answering(b"hello"), "failed to parse hook response: no JSON: Expecting value: line 1 column 1 (char 0)"),
        (answering(b'{"StopUpload":"x"}'), "failed to parse hook response: StopUpload is not true or false"),
        (
            answering(b"{}", content_type="text/html; charset=utf-8"),
            "expected hook response Content-Type to be application/json, but got 'text/html; charset=utf-8'",
        ),
        (answering(b"{}", content_type=""), "hook response does not contain the 'Content-Type: application/json' header"),
    ],
)
async def test_failures_say_what_is_wrong_in_tusds_words(reply: web.Response, message: str) -> None:
    service = Service(reply)
    async with asking(service) as hooks:
        with pytest.raises(HookFailure) as failure:
            await hooks.invoke(event())
    assert str(failure.value) == message
    assert len(service.requests) == 1, "tried again"


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
async def test_parameters_and_case_of_the_media_type_do_not_matter(content_type: str) -> None:
    async with asking(Service(answering(b"{}", content_type=content_type))) as hooks:
        assert await hooks.invoke(event()) == HookAnswer()


async def test_an_answer_as_large_as_allowed_is_read() -> None:
    async with asking(Service(answering(b" " * 5118 + b"{}")), size_limit=5120) as hooks:
        assert await hooks.invoke(event()) == HookAnswer()


@pytest.mark.parametrize("status", [500, 502, 503, 599])
@pytest.mark.parametrize(("attempts", "asked"), [(3, 3), (1, 1), (0, 1), (-1, 1)])
async def test_5xx_is_tried_again_so_many_times(status: int, attempts: int, asked: int) -> None:
    service = Service(answering(b"later", status))
    async with asking(service, attempts=attempts) as hooks:
        with pytest.raises(HookFailure, match=rf"unexpected response code from hook endpoint \({status}\): later"):
            await hooks.invoke(event())
    assert len(service.requests) == asked


async def test_another_attempt_may_succeed() -> None:
    service = Service(answering(b"", 500), closing, answering(b'{"StopUpload":true}'))
    async with asking(service) as hooks:
        assert (await hooks.invoke(event())).stop_upload
    assert len(service.requests) == 3
    assert len(set(service.bodies)) == 1


async def closing(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "100"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.close()
    return response


async def hanging(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    with suppress(ConnectionError):
        while True:
            await response.write(b" " * 65536)
    return response


@pytest.mark.parametrize("reply", [closing, half])
async def test_connections_that_break_are_tried_again_and_then_a_failure(reply: Handler) -> None:
    service = Service(reply)
    async with asking(service) as hooks:
        with pytest.raises(HookFailure, match=r"the hook endpoint could not be reached: ."):
            await hooks.invoke(event())
    assert len(service.requests) == 3


async def test_a_service_that_is_not_there_is_a_failure() -> None:
    async with serving(Service()) as service:
        pass
    hooks = WebHooks(service.url, ALL, backoff=0.0)
    with pytest.raises(HookFailure, match="could not be reached"):
        await hooks.invoke(event())
    await hooks.close()


async def test_what_is_no_http_is_a_failure() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        hooks = WebHooks(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", ALL, backoff=0.0)
        with pytest.raises(HookFailure, match="could not be reached"):
            await hooks.invoke(event())
        await hooks.close()


async def test_an_answer_that_never_ends_is_cut_off() -> None:
    async with asking(Service(endless)) as hooks:
        with pytest.raises(HookFailure, match="exceeded maximum size"):
            await hooks.invoke(event())


@pytest.mark.parametrize("reply", [hanging, answering(b"", 500)], ids=["hanging", "5xx"])
async def test_one_time_limit_covers_all_attempts(reply: web.Response | Handler) -> None:
    async with asking(Service(reply), timeout=0.2, backoff=0.15, attempts=1000) as hooks:
        with pytest.raises(HookFailure, match=r"the hook endpoint did not answer within 0\.2 seconds"):
            await hooks.invoke(event())


async def test_a_cancelled_call_leaves_no_connection() -> None:
    service = Service(hanging)
    async with asking(service) as hooks:
        call = asyncio.create_task(hooks.invoke(event()))
        await until(lambda: service.requests)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: service.requests[0].transport is None or service.requests[0].transport.is_closing())


async def test_connections_are_kept_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tusd_py.hooks.webhook.MAX_CONNECTIONS", 2)
    service = Service()
    async with asking(service) as hooks:
        await asyncio.gather(*(hooks.invoke(event()) for _ in range(12)))
    assert len(service.requests) == 12
    assert len(service.peers) == 2


async def test_cookies_are_not_kept() -> None:
    service = Service(web.Response(body=b"{}", headers={"Content-Type": "application/json", "Set-Cookie": "a=b"}))
    async with serving(service):
        hooks = WebHooks(service.url.replace("127.0.0.1", "localhost"), ALL)  # addresses have no cookies anyway
        await hooks.invoke(event())
        await hooks.invoke(event())
        await hooks.close()
    assert "Cookie" not in service.requests[1].headers


async def test_compressed_answers_are_not_unpacked() -> None:
    bomb = web.Response(
        body=gzip.compress(b" " * 3000 + b"{}"), headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}
    )
    service = Service(bomb)
    async with asking(service) as hooks:
        with pytest.raises(HookFailure, match="no JSON"):
            await hooks.invoke(event())
    assert service.requests[0].headers["Accept-Encoding"] == "identity"


async def test_a_redirection_that_keeps_the_method_is_followed() -> None:
    service = Service(web.Response(status=308, headers={"Location": "/there"}), answering(b'{"StopUpload":true}'))
    async with asking(service) as hooks:
        assert (await hooks.invoke(event())).stop_upload
    assert [request.path for request in service.requests] == ["/hooks", "/there"]
    assert len(set(service.bodies)) == 1


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*new, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True, timeout=60)
    return certificate, key


async def test_certificates_are_verified_unless_told_not_to(pair: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    async with serving(Service(), context) as service:
        careful, careless = WebHooks(service.url, ALL, attempts=1), WebHooks(service.url, ALL, attempts=1, skip_verify=True)
        with pytest.raises(HookFailure, match="certificate verify failed"):
            await careful.invoke(event())
        assert await careless.invoke(event()) == HookAnswer()
        await careful.close()
        await careless.close()


async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Service()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.partition("/hooks")[0])
        hooks = WebHooks("http://hooks.example.test/there", ALL, attempts=1)
        await hooks.invoke(event())
        await hooks.close()
    assert proxy.requests[0].raw_path == "http://hooks.example.test/there"


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("http://a.test/", {}, None),
        ("http://a.test/", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("http://a.test/", {"http_proxy": "p:1"}, "http://p:1"),
        ("https://a.test/", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://a.test/", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("http://a.test/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "b.test,a.test"}, None),
        ("http://u:p@x.a.test:81/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": ".a.test"}, None),
        ("http://a.test/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("http://localhost:8000/", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://127.0.0.1/", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://[::1]:80/", {"HTTP_PROXY": "http://p:1"}, None),
    ],
)
def test_proxies(url: str, environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


async def test_close_can_be_called_twice_and_before_any_call() -> None:
    hooks = WebHooks("http://127.0.0.1:1/", ALL)
    await hooks.close()
    await hooks.close()
