"""Hooks as a real server asks them, each way alike: what they are told is kept, and what they answer can be set."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.support.waiting import until
from tusd_py.protocol.hook_messages import build_hook_message
from tusd_py.protocol.hooks import HookEvent, HookType
from tusd_py.protocol.metadata import parse_metadata
from tusd_py.protocol.upload import Upload

SCRIPT = """#!/bin/sh
name=$(date +%s%N)-$$
cat > told/.$name
[ -s told/.$name ] || exit 1  # the server was killed before it could tell
mv told/.$name told/$name
if [ -e fail-$(basename "$0") ]; then cat fail-$(basename "$0"); exit 1; fi
if [ -e answer-$(basename "$0") ]; then cat answer-$(basename "$0"); fi
"""

# Its hooks can also hang, and answer for finals alone: see tests/interop/hooking.py.
MODULE = """
import os, time
from pathlib import Path
from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.hook_messages import build_hook_message, parse_hook_answer

HERE = Path(__file__).parent

def hook(event):
    name, kind = f"{time.time_ns()}-{os.getpid()}", str(event.type)
    (HERE / "told" / f".{name}").write_bytes(build_hook_message(event))
    (HERE / "told" / f".{name}").rename(HERE / "told" / name)
    while (HERE / f"hang-{kind}").exists():
        time.sleep(0.02)
    if failure := text(f"fail-{kind}"):
        raise HookFailure(failure)
    final = text(f"answer-{kind}-final") if event.upload.partials is not None else None
    answer = final or text(f"answer-{kind}")
    return parse_hook_answer(answer.encode()) if answer else None

def text(name):
    try:
        return (HERE / name).read_text()
    except FileNotFoundError:
        return None
"""


def read(path: Path) -> bytes | None:
    """A test may take the file away at any moment."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


class Hooking:
    """Hooks of a server. `arguments` and `environment` are for it; `directory` holds what the hooks were told and answer."""

    def __init__(self, directory: Path, arguments: list[str], environment: dict[str, str] | None = None) -> None:
        self.directory, self.arguments, self.environment = directory, arguments, environment or {}
        self.told_in = directory / "told"
        self.way = ""

    def answer(self, kind: str, **answer: Any) -> None:
        """What hooks of this kind answer from now on."""
        new = self.directory / f".answer-{kind}"
        new.write_text(json.dumps(answer))
        new.rename(self.directory / f"answer-{kind}")

    def fail(self, kind: str, text: str) -> None:
        """Hooks of this kind fail from now on, with this text."""
        (self.directory / f"fail-{kind}").write_text(text)

    def recover(self, kind: str) -> None:
        (self.directory / f"fail-{kind}").unlink()

    def forget(self) -> None:
        """What they were told, and what they were to answer."""
        for path in (*self.told_in.iterdir(), *self.directory.glob("answer-*"), *self.directory.glob("fail-*")):
            path.unlink()

    def raw(self) -> list[bytes]:
        """What hooks were told, in order of arrival."""
        names = sorted(name for name in os.listdir(self.told_in) if not name.startswith("."))
        return [(self.told_in / name).read_bytes() for name in names]

    def told(self, kind: str | None = None) -> list[dict[str, Any]]:
        messages = [json.loads(data) for data in self.raw()]
        return [message for message in messages if kind in (None, message["Type"])]

    def wait(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """Messages of this kind, once there are so many."""
        return until(lambda: (found := self.told(kind)) and len(found) >= count and found, what=f"{kind} {self.told()}")

    def kinds(self) -> list[str]:
        return [message["Type"] for message in self.told()]

    def take(self, message: bytes, kind: str) -> tuple[bool, bytes]:
        """Keep a message; returns whether to answer, and what."""
        name = f"{len(os.listdir(self.told_in)):06}"
        (self.told_in / f".{name}").write_bytes(message)
        (self.told_in / f".{name}").rename(self.told_in / name)
        failure = read(self.directory / f"fail-{kind}")
        if failure is not None:
            return False, failure
        return True, read(self.directory / f"answer-{kind}") or b"{}"


@contextmanager
def programs(directory: Path) -> Iterator[Hooking]:
    for kind in HookType:
        (directory / kind).write_text(SCRIPT)
        (directory / kind).chmod(0o755)
    yield Hooking(directory, [f"-hooks-dir={directory}"])


@contextmanager
def web_service(directory: Path) -> Iterator[Hooking]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            message = self.rfile.read(int(self.headers["Content-Length"]))
            works, answer = hooking.take(message, json.loads(message)["Type"])
            self.send_response(200 if works else 400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hooking = Hooking(directory, [f"-hooks-http=http://127.0.0.1:{server.server_address[1]}/"])
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hooking
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def grpc_service(directory: Path) -> Iterator[Hooking]:
    import grpc

    from tusd_py.hooks.grpc_messages import HookRequest, HookResponse

    def invoke(request: Any, context: grpc.ServicerContext) -> Any:
        works, answer = hooking.take(_as_json(request), request.type)
        if not works:
            context.abort(grpc.StatusCode.INTERNAL, answer.decode())
        return HookResponse(**_as_response(json.loads(answer)))

    handler = grpc.unary_unary_rpc_method_handler(
        invoke, request_deserializer=HookRequest.FromString, response_serializer=HookResponse.SerializeToString
    )
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("proto.HookHandler", {"InvokeHook": handler}),))
        hooking = Hooking(directory, [f"-hooks-grpc=127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"])
        server.start()
        try:
            yield hooking
        finally:
            server.stop(None).wait()


def _as_json(request: Any) -> bytes:
    """A request as the other ways tell it, with the first value of each header."""
    upload, http = request.event.upload, request.event.httpRequest
    record = Upload(
        id=upload.id,
        length=None if upload.sizeIsDeferred else upload.size,
        offset=upload.offset,
        metadata=parse_metadata(""),
        is_partial=upload.isPartial,
        partials=tuple(upload.partialUploads) if upload.isFinal else None,
        storage=dict(upload.storage),
    )
    message = json.loads(build_hook_message(HookEvent(type=HookType(request.type), upload=record)))
    message["Event"]["Upload"]["MetaData"] = dict(upload.metaData)
    message["Event"]["HTTPRequest"] = {
        "Method": http.method,
        "URI": http.uri,
        "RemoteAddr": http.remoteAddr,
        "Header": {name: [value] for name, value in http.header.items()},
    }
    return json.dumps(message).encode()


def _as_response(answer: dict[str, Any]) -> dict[str, Any]:
    response, changes = answer.get("HTTPResponse", {}), answer.get("ChangeFileInfo", {})
    return {
        "httpResponse": {
            "statusCode": response.get("StatusCode", 0),
            "header": response.get("Header", {}),
            "body": response.get("Body", ""),
        },
        "rejectUpload": answer.get("RejectUpload", False),
        "stopUpload": answer.get("StopUpload", False),
        "changeFileInfo": {
            "id": changes.get("ID", ""),
            "metaData": changes.get("MetaData", {}),
            "storage": changes.get("Storage", {}),
        },
    }


@contextmanager
def python_function(directory: Path) -> Iterator[Hooking]:
    name = f"hooks_{os.getpid()}"
    (directory / f"{name}.py").write_text(MODULE)
    yield Hooking(directory, [f"-hooks-python={name}:hook"], {"PYTHONPATH": str(directory)})


WAYS: dict[str, Callable[[Path], Any]] = {
    "programs": programs,
    "web": web_service,
    "grpc": grpc_service,
    "python": python_function,
}
