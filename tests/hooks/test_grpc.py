"""A gRPC service as hook: a real one on loopback, plain, with TLS and with mutual TLS, well-behaved and otherwise."""

from __future__ import annotations

import asyncio
import importlib.resources
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.hooks.support import ALL, ANSWERS, REQUEST, event, until
from tusd_py.hooks.grpc import GrpcHooks
from tusd_py.hooks.grpc_messages import METHOD, build_request, file_descriptor
from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.hooks import HookAnswer, HookEvent, HookType
from tusd_py.protocol.upload import Upload

Pair = tuple[Path, Path]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> descriptor_pb2.FileDescriptorProto:
    """What protoc makes of the file that users take for their services."""
    proto = importlib.resources.files("tusd_py.hooks") / "hook.proto"
    directory = tmp_path_factory.mktemp("proto")
    (directory / "hook.proto").write_bytes(proto.read_bytes())
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{directory}", f"--descriptor_set_out={directory}/set"]
    subprocess.run([*command, "hook.proto"], check=True, timeout=60, cwd=directory)
    files = descriptor_pb2.FileDescriptorSet.FromString((directory / "set").read_bytes())
    return files.file[0]


@pytest.fixture(scope="session")
def messages(compiled: descriptor_pb2.FileDescriptorProto) -> Callable[[str], Any]:
    """Classes as a service has them, of protoc's making."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(compiled)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"proto.{name}"))


def test_our_messages_are_those_of_the_file(compiled: descriptor_pb2.FileDescriptorProto) -> None:
    ours, theirs = file_descriptor(), descriptor_pb2.FileDescriptorProto.FromString(compiled.SerializeToString())
    service = theirs.service[0]
    assert f"/{theirs.package}.{service.name}/{service.method[0].name}" == METHOD
    del theirs.service[:]
    for file in (ours, theirs):
        for message in file.message_type:
            message.ClearField("nested_type")
            for field in message.field:
                field.ClearField("json_name")
    key = lambda message: message.name  # noqa: E731
    assert sorted(ours.message_type, key=key) == sorted(theirs.message_type, key=key)


def test_the_numbers_are_tusds(compiled: descriptor_pb2.FileDescriptorProto) -> None:
    numbers = {message.name: {field.name: field.number for field in message.field} for message in compiled.message_type}
    assert numbers == {
        "HookRequest": {"type": 1, "event": 2},
        "Event": {"upload": 1, "httpRequest": 2},
        "FileInfo": {
            "id": 1,
            "size": 2,
            "sizeIsDeferred": 3,
            "offset": 4,
            "metaData": 5,
            "isPartial": 6,
            "isFinal": 7,
            "partialUploads": 8,
            "storage": 9,
        },
        "HTTPRequest": {"method": 1, "uri": 2, "remoteAddr": 3, "header": 4},
        "HookResponse": {"httpResponse": 1, "rejectUpload": 2, "stopUpload": 3, "changeFileInfo": 4},
        "FileInfoChanges": {"id": 1, "metaData": 2, "storage": 3},
        "HTTPResponse": {"statusCode": 1, "header": 2, "body": 3},
    }


Behaviour = Callable[["Service", Any, grpc.aio.ServicerContext], Awaitable[Any]]


class Service:
    """A HookHandler that notes what it is asked, and answers with `reply` or as `behave` does."""

    def __init__(self, messages: Callable[[str], Any], reply: dict[str, Any] | None = None, behave: Behaviour | None = None):
        self.messages, self.reply, self.behave = messages, reply or {}, behave
        self.requests: list[Any] = []
        self.metadata: list[list[tuple[str, str | bytes]]] = []
        self.cancelled = 0
        self.target = ""

    async def answer(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        self.requests.append(request)
        self.metadata.append([(key, value) for key, value in context.invocation_metadata() or ()])
        if self.behave is not None:
            return await self.behave(self, request, context)
        return self.messages("HookResponse")(**self.reply)

    def add_to(self, server: grpc.aio.Server) -> None:
        handler = grpc.unary_unary_rpc_method_handler(
            self.answer,
            request_deserializer=self.messages("HookRequest").FromString,
            response_serializer=lambda response: response if isinstance(response, bytes) else response.SerializeToString(),
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("proto.HookHandler", {"InvokeHook": handler}),))


@asynccontextmanager
async def serving(service: Service, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[Service]:
    server = grpc.aio.server()
    service.add_to(server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
        service.target = f"127.0.0.1:{port}"
    else:
        service.target = f"localhost:{server.add_secure_port('localhost:0', credentials)}"
    await server.start()
    try:
        yield service
    finally:
        await server.stop(None)


@asynccontextmanager
async def asking(service: Service, **options: Any) -> AsyncIterator[GrpcHooks]:
    async with serving(service):
        hooks = GrpcHooks(service.target, ALL, **{"backoff": 0.0, **options})
        try:
            yield hooks
        finally:
            await hooks.close()


def reply_of(answer: HookAnswer) -> dict[str, Any]:
    """An answer as a service gives it."""
    response, changes = answer.response, answer.changes
    return {
        "httpResponse": {
            "statusCode": response.status or 0,
            "header": {name: value.encode("latin-1").decode() for name, value in response.headers.items()},
            "body": response.body or "",
        },
        "rejectUpload": answer.reject_upload,
        "stopUpload": answer.stop_upload,
        "changeFileInfo": {
            "id": changes.id or "",
            "metaData": {key: value.decode() for key, value in (changes.metadata or {}).items()},
            "storage": {"Path": changes.path} if changes.path else {},
        },
    }


CARRIED = {name: answer for name, answer in ANSWERS.items() if name not in ("keep", "erase")}
"""Of the table all but what tusd's messages have no place for."""


@pytest.mark.parametrize("answer", CARRIED.values(), ids=CARRIED)
async def test_what_it_replies_is_the_answer(answer: HookAnswer, messages: Callable[[str], Any]) -> None:
    async with asking(Service(messages, reply_of(answer))) as hooks:
        assert await hooks.invoke(event()) == answer


@pytest.mark.parametrize("name", ["keep", "erase"])
async def test_what_has_no_place_in_the_messages_says_nothing(name: str, messages: Callable[[str], Any]) -> None:
    async with asking(Service(messages, reply_of(ANSWERS[name]))) as hooks:
        assert await hooks.invoke(event()) == HookAnswer()


async def test_it_is_told_everything(messages: Callable[[str], Any]) -> None:
    service = Service(messages)
    async with asking(service) as hooks:
        await hooks.invoke(event(HookType.POST_FINISH, partials=("a", "b/c")))
        await hooks.invoke(HookEvent(type=HookType.PRE_CREATE, upload=Upload(id="", length=None, is_partial=True)))
    first, second = service.requests
    assert first.type == "post-finish"
    upload, request = first.event.upload, first.event.httpRequest
    assert (upload.id, upload.size, upload.sizeIsDeferred, upload.offset) == ("cd8e", 11, False, 4)
    assert dict(upload.metaData) == {"filename": "ü.txt", "note": "<b>"}
    assert (upload.isPartial, upload.isFinal, list(upload.partialUploads)) == (False, True, ["a", "b/c"])
    assert upload.storage["Path"] == "/abs/dir/cd8e"
    assert (request.method, request.uri, request.remoteAddr) == ("PATCH", REQUEST.uri, REQUEST.remote_addr)
    assert dict(request.header) == {
        "Authorization": "Bearer abc",
        "Host": "tus.test:8080",
        "X-Custom": "1",
        "X-Text": "grün",
    }
    upload = second.event.upload
    assert (upload.id, upload.size, upload.sizeIsDeferred, upload.isPartial, dict(upload.storage)) == ("", 0, True, True, {})


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    headers = {"X": ("gr\u00fcn",), "Y\u00fc": ("y",), "Empty": ()}
    asked = replace(event(), request=replace(REQUEST, headers=headers, uri="/\u00fc"))
    request = build_request(asked).event.httpRequest
    assert dict(request.header) == {"X": "gr\ufffdn", "Y\ufffd": "y"}
    assert request.uri == "/\ufffd"


async def test_headers_go_along_as_metadata(messages: Callable[[str], Any]) -> None:
    service = Service(messages)
    names = ["Authorization", " x-custom", "X-Text", "Missing", "", "Host", "X-Data-Bin", "grpc-x", "no token"]
    async with asking(service, forward_headers=names) as hooks:
        await hooks.invoke(event(event_id="e1"))
    ours = [pair for pair in service.metadata[0] if pair[0] != "user-agent"]
    assert ours == [
        ("authorization", "Bearer abc"),
        ("x-custom", "1"),
        ("x-custom", "2"),
        ("x-text", "gr??n"),
        ("idempotency-key", "e1"),
    ]


def failing(code: grpc.StatusCode, details: str = "not now") -> Behaviour:
    async def behave(service: Service, _: Any, context: grpc.aio.ServicerContext) -> Any:
        await context.abort(code, details)

    return behave


@pytest.mark.parametrize(
    ("code", "name", "asked"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Unavailable", 3),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "ResourceExhausted", 3),
        (grpc.StatusCode.INTERNAL, "Internal", 1),
        (grpc.StatusCode.PERMISSION_DENIED, "PermissionDenied", 1),
        (grpc.StatusCode.CANCELLED, "Canceled", 1),
    ],
)
async def test_failures_are_tried_again_where_that_helps(
    code: grpc.StatusCode, name: str, asked: int, messages: Callable[[str], Any]
) -> None:
    service = Service(messages, behave=failing(code))
    async with asking(service) as hooks:
        with pytest.raises(HookFailure, match=f"rpc error: code = {name} desc = not now"):
            await hooks.invoke(event())
    assert len(service.requests) == asked


@pytest.mark.parametrize("attempts", [0, 1])
async def test_one_attempt_is_the_least(attempts: int, messages: Callable[[str], Any]) -> None:
    service = Service(messages, behave=failing(grpc.StatusCode.UNAVAILABLE))
    async with asking(service, attempts=attempts) as hooks:
        with pytest.raises(HookFailure):
            await hooks.invoke(event())
    assert len(service.requests) == 1


async def test_another_attempt_may_succeed(messages: Callable[[str], Any]) -> None:
    async def behave(service: Service, request: Any, context: grpc.aio.ServicerContext) -> Any:
        if len(service.requests) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
        return service.messages("HookResponse")(stopUpload=True)

    async with asking(Service(messages, behave=behave)) as hooks:
        assert (await hooks.invoke(event())).stop_upload


async def test_a_service_that_is_not_there_is_a_failure(messages: Callable[[str], Any]) -> None:
    async with serving(Service(messages)) as service:
        pass
    hooks = GrpcHooks(service.target, ALL, backoff=0.0)
    with pytest.raises(HookFailure, match=r"rpc error: code = Unavailable desc = ."):
        await hooks.invoke(event())
    await hooks.close()


async def garbage(service: Service, _: Any, __: Any) -> Any:
    return b"\xff\xff\xff garbage"


async def huge(service: Service, _: Any, __: Any) -> Any:
    return service.messages("HookResponse")(httpResponse={"body": "x" * 2_000_000})


async def senseless(service: Service, _: Any, __: Any) -> Any:
    return service.messages("HookResponse")(httpResponse={"statusCode": 7})


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (garbage, "failed to parse hook response: no HookResponse"),
        (huge, "rpc error: code = ResourceExhausted"),
        (senseless, "failed to parse hook response: StatusCode is 7"),
    ],
)
async def test_answers_that_make_no_sense_are_failures(behave: Behaviour, message: str, messages: Callable[[str], Any]) -> None:
    async with asking(Service(messages, behave=behave)) as hooks:
        with pytest.raises(HookFailure, match=message):
            await hooks.invoke(event())


async def hanging(service: Service, _: Any, __: Any) -> Any:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        service.cancelled += 1
        raise


async def test_a_call_has_a_time_limit(messages: Callable[[str], Any]) -> None:
    service = Service(messages, behave=hanging)
    async with asking(service, timeout=0.3) as hooks:
        with pytest.raises(HookFailure, match=r"did not answer within 0\.3 seconds|code = DeadlineExceeded"):
            await hooks.invoke(event())
        await until(lambda: service.cancelled)


async def test_a_cancelled_call_is_cancelled_at_the_service(messages: Callable[[str], Any]) -> None:
    service = Service(messages, behave=hanging)
    async with asking(service) as hooks:
        call = asyncio.create_task(hooks.invoke(event()))
        await until(lambda: service.requests)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: service.cancelled)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    """Self-signed certificates and keys, of a service and of a client."""

    def new(name: str) -> Pair:
        certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
        request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        names = ["-addext", "subjectAltName=DNS:localhost"]
        command = [*request, *names, "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return certificate, key

    directory = tmp_path_factory.mktemp("tls")
    return new("service"), new("client")


def server_credentials(pair: Pair, client: Path | None = None) -> grpc.ServerCredentials:
    chain = [(pair[1].read_bytes(), pair[0].read_bytes())]
    roots = client.read_bytes() if client else None
    return grpc.ssl_server_credentials(chain, root_certificates=roots, require_client_auth=client is not None)


async def ask_once(target: str, **options: Any) -> HookAnswer:
    hooks = GrpcHooks(target, ALL, attempts=1, **options)
    try:
        return await hooks.invoke(event())
    finally:
        await hooks.close()


async def test_tls(messages: Callable[[str], Any], pairs: tuple[Pair, Pair]) -> None:
    service, client = pairs
    async with serving(Service(messages), server_credentials(service)) as found:
        assert await ask_once(found.target, root_certificates=service[0].read_bytes()) == HookAnswer()
        with pytest.raises(HookFailure, match="Unavailable"):
            await ask_once(found.target, root_certificates=client[0].read_bytes())
        with pytest.raises(HookFailure, match="Unavailable"):
            await ask_once(found.target)


async def test_mutual_tls(messages: Callable[[str], Any], pairs: tuple[Pair, Pair]) -> None:
    service, client = pairs
    roots = service[0].read_bytes()
    async with serving(Service(messages), server_credentials(service, client[0])) as found:
        pair = (client[0].read_bytes(), client[1].read_bytes())
        assert await ask_once(found.target, root_certificates=roots, client_pair=pair) == HookAnswer()
        with pytest.raises(HookFailure, match="Unavailable"):
            await ask_once(found.target, root_certificates=roots)


async def test_close_can_be_called_twice_and_before_any_call() -> None:
    hooks = GrpcHooks("127.0.0.1:1", ALL)
    await hooks.close()
    await hooks.close()
