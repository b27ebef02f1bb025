"""tusd_py/openapi.yaml says what the server answers: nothing less, nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from tests.support.server import ServerProcess
from tests.support.wire import OFFSET_STREAM, Answer, checksum
from tusd_py import __version__
from tusd_py.protocol import refusals
from tusd_py.protocol.refusals import Refusal

TEXT = files("tusd_py").joinpath("openapi.yaml").read_text()
DOCUMENT: dict[str, Any] = yaml.safe_load(TEXT)
METHODS = ("get", "head", "post", "patch", "delete", "options", "put")


def resolved(node: Any) -> Any:
    """A part of the document without references."""
    if isinstance(node, list):
        return [resolved(each) for each in node]
    if not isinstance(node, dict):
        return node
    plain = {key: resolved(value) for key, value in node.items() if key != "$ref"}
    if "$ref" not in node:
        return plain
    target: Any = DOCUMENT
    for key in node["$ref"].removeprefix("#/").split("/"):
        target = target[key]
    return {**resolved(target), **plain}


OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: {**resolved(operation), "path": path, "method": method.upper()}
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in METHODS
}

# Documented answers that the requests below do not bring about, and where they are tested.
FAILURES = {"500": "broken storage: tests/asgi/test_errors.py", "507": "full and read-only disks: tests/crash/test_space.py"}
ELSEWHERE: dict[tuple[str, str], str] = {
    ("createUpload", "409"): "the pre-create hook",
    ("createUpload", "415"): "a list of file types",
    ("createUpload", "423"): "an authorizer or another process that hangs",
    ("createUpload", "429"): "limits",
    ("createUpload", "503"): "tests/wire/test_shutdown.py",
    ("appendToUpload", "423"): "tests/wire/test_locks.py",
    ("appendToUpload", "503"): "tests/wire/test_shutdown.py",
    ("describeUpload", "423"): "tests/wire/test_locks.py",
    ("terminateUpload", "400"): "the pre-terminate hook",
    ("terminateUpload", "423"): "tests/wire/test_locks.py",
    ("getStatus", "423"): "an authorizer that fails",
    ("watchUpload", "423"): "an authorizer that fails",
    ("watchUpload", "503"): "1000 streams: tests/asgi/test_status.py",
    ("watchUploads", "503"): "1000 streams: tests/asgi/test_status.py",
    ("listUploads", "503"): "tests/asgi/test_status.py",
    ("getReadiness", "503"): "a server that is not ready",
    ("getMetrics", "503"): "metrics that take too long",
}


def is_tested_elsewhere(operation: str, status: str) -> bool:
    return (operation, status) in ELSEWHERE or status in FAILURES


# The document by itself


def test_is_valid() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == __version__


def codes(text: str) -> set[str]:
    """The error codes in the patterns of the document."""
    found: set[str] = set()
    for pattern in re.findall(r"ERR_[A-Z_]*(?:\([A-Z_|]+\))?", text):
        start, _, alternatives = pattern.rstrip(")").partition("(")
        found.update(start + each for each in alternatives.split("|"))
    return found


def test_names_every_error_and_no_other() -> None:
    patterns = json.dumps(resolved(DOCUMENT["paths"]))
    kinds = [
        kind for kind in vars(refusals).values() if isinstance(kind, type) and issubclass(kind, Refusal) and kind is not Refusal
    ]
    assert codes(patterns) == {kind.code for kind in kinds}


def test_errors_stand_at_their_status() -> None:
    status_of: dict[str, set[int]] = {}
    for kind in vars(refusals).values():
        if isinstance(kind, type) and issubclass(kind, Refusal) and kind is not Refusal:
            status_of.setdefault(kind.code, set()).add(kind.status)
    for name, operation in OPERATIONS.items():
        for status, response in operation["responses"].items():
            for code in codes(json.dumps(response.get("content", {}))):
                assert int(status) in status_of[code], f"{name}: {code} is not {status}"


# The server by the document


@dataclass(frozen=True)
class Case:
    """A request, and the answer that it is to have."""

    operation: str
    status: int
    code: str = ""
    path: str = ""
    headers: dict[str, object] = field(default_factory=dict)
    body: bytes | None = None
    server: str = "main"
    tus: bool = True


PATCH = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM}
NOT_1 = {"Tus-Resumable": "0.2.2"}
EVIL = {"Origin": "https://evil.example"}
ANN, BOB, LIMITED = ({"Authorization": f"Bearer {name * 10}"} for name in ("anns", "bobs", "adds"))
STREAM = {"Content-Type": OFFSET_STREAM}
SHA1 = {"Upload-Checksum": checksum("sha1", b"world")}

CASES = [
    Case("createUpload", 201, headers={"Upload-Length": 5}),
    Case("createUpload", 201, headers={"Upload-Defer-Length": 1, "Upload-Concat": "partial"}),
    Case("createUpload", 201, headers={"Upload-Length": 5, **STREAM}, body=b"hello"),
    Case("createUpload", 201, headers={"Upload-Concat": "final;{waiting_partial}"}),
    Case("createUpload", 400, "INVALID_UPLOAD_LENGTH"),
    Case("createUpload", 400, "INVALID_UPLOAD_LENGTH_DEFER", headers={"Upload-Defer-Length": 2}),
    Case("createUpload", 400, "AMBIGUOUS_UPLOAD_LENGTH", headers={"Upload-Defer-Length": 1, "Upload-Length": 1}),
    Case("createUpload", 400, "INVALID_CONCAT", headers={"Upload-Concat": "neither"}),
    Case("createUpload", 400, "INVALID_METADATA", headers={"Upload-Length": 1, "Upload-Metadata": "a !"}),
    Case(
        "createUpload", 400, "INVALID_CHECKSUM", headers={"Upload-Length": 5, **STREAM, "Upload-Checksum": "x y"}, body=b"hello"
    ),
    Case(
        "createUpload",
        400,
        "CONCATENATION_UNSUPPORTED",
        headers={"Upload-Length": 1, "Upload-Concat": "partial"},
        server="bare",
    ),
    Case("createUpload", 401, "UNAUTHORIZED", headers={"Upload-Length": 1}, server="guarded"),
    Case("createUpload", 403, "MODIFY_FINAL", headers={"Upload-Concat": "final;{partial}", **STREAM}, body=b"hello"),
    Case("createUpload", 403, "ORIGIN_NOT_ALLOWED", headers={"Upload-Length": 1, **EVIL}),
    Case("createUpload", 404, "UPLOAD_NOT_FOUND", headers={"Upload-Concat": "final;/files/unknown"}),
    Case("createUpload", 410, "UPLOAD_EXPIRED", headers={"Upload-Concat": "final;{gone}"}),
    Case("createUpload", 412, "UNSUPPORTED_VERSION", headers=NOT_1),
    Case("createUpload", 413, "MAX_SIZE_EXCEEDED", headers={"Upload-Length": 1001}),
    Case("createUpload", 413, "UPLOAD_SIZE_EXCEEDED", headers={"Upload-Length": 1, **STREAM}, body=b"hello"),
    Case("createUpload", 460, "CHECKSUM_MISMATCH", headers={"Upload-Length": 5, **STREAM, **SHA1}, body=b"hello"),
    *(
        case
        for name, path in (("describeServer", "/files/"), ("describeServerAtUpload", "{empty}"))
        for case in (Case(name, 200, path=path, tus=False), Case(name, 403, "ORIGIN_NOT_ALLOWED", path, EVIL))
    ),
    Case("describeUpload", 200, path="{empty}"),
    Case("describeUpload", 200, path="{finished}"),
    Case("describeUpload", 200, path="{deferred}"),
    Case("describeUpload", 200, path="{final}"),
    Case("describeUpload", 200, path="{finished}", tus=False),
    Case("describeUpload", 304, path="{finished}", headers={"If-None-Match": "*"}, tus=False),
    Case("describeUpload", 401, path="{anns}", server="guarded"),
    Case("describeUpload", 403, path="{anns}", headers=BOB, server="guarded"),
    Case("describeUpload", 404, path="/files/unknown"),
    Case("describeUpload", 410, path="{gone}"),
    Case("describeUpload", 412, path="{empty}", headers=NOT_1),
    Case("describeUpload", 412, path="{finished}", headers={"If-Match": '"other"'}, tus=False),
    Case("appendToUpload", 204, path="{deferred}", headers={**PATCH, "Upload-Length": 5}, body=b"hel"),
    Case("appendToUpload", 400, "INVALID_OFFSET", "{empty}", STREAM, b"hello"),
    Case("appendToUpload", 400, "INVALID_UPLOAD_LENGTH", "{empty}", {**PATCH, "Upload-Length": "x"}, b"hello"),
    Case("appendToUpload", 400, "INVALID_CHECKSUM", "{empty}", {**PATCH, "Upload-Checksum": "x y"}, b"hello"),
    Case("appendToUpload", 400, "MALFORMED_BODY", "{empty}", {**PATCH, "Transfer-Encoding": "chunked"}, b"nonsense\r\n"),
    Case("appendToUpload", 401, "UNAUTHORIZED", "{anns}", PATCH, b"hello", server="guarded"),
    Case("appendToUpload", 403, "FORBIDDEN", "{anns}", {**PATCH, **BOB}, b"hello", server="guarded"),
    Case("appendToUpload", 403, "MODIFY_FINAL", "{final}", PATCH, b"hello"),
    Case("appendToUpload", 404, "UPLOAD_NOT_FOUND", "/files/unknown", PATCH, b"hello"),
    Case("appendToUpload", 409, "MISMATCHED_OFFSET", "{finished}", PATCH, b""),
    Case("appendToUpload", 410, "UPLOAD_EXPIRED", "{gone}", PATCH, b"hello"),
    Case("appendToUpload", 412, "UNSUPPORTED_VERSION", "{empty}", {**PATCH, **NOT_1}, b"hello"),
    Case("appendToUpload", 413, "UPLOAD_SIZE_EXCEEDED", "{empty}", PATCH, b"hello world"),
    Case("appendToUpload", 415, "INVALID_CONTENT_TYPE", "{empty}", {**PATCH, "Content-Type": "text/plain"}, b"hello"),
    Case("appendToUpload", 460, "CHECKSUM_MISMATCH", "{empty}", {**PATCH, **SHA1}, b"hello"),
    Case("downloadUpload", 200, path="{finished}", tus=False),
    Case("downloadUpload", 200, path="{partial}"),
    Case("downloadUpload", 200, path="{empty}"),
    Case("downloadUpload", 206, path="{finished}", headers={"Range": "bytes=1-2"}),
    Case("downloadUpload", 304, path="{finished}", headers={"If-None-Match": "*"}),
    Case("downloadUpload", 401, "UNAUTHORIZED", "{anns}", server="guarded"),
    Case("downloadUpload", 403, "FORBIDDEN", "{anns}", BOB, server="guarded"),
    Case("downloadUpload", 404, "UPLOAD_NOT_FOUND", "/files/unknown"),
    Case("downloadUpload", 405, "METHOD_NOT_ALLOWED", "/files/unknown", server="bare"),
    Case("downloadUpload", 410, "UPLOAD_EXPIRED", "{gone}"),
    Case("downloadUpload", 412, path="{finished}", headers={"If-Match": '"other"'}),
    Case("downloadUpload", 412, "UNSUPPORTED_VERSION", "{finished}", NOT_1),
    Case("downloadUpload", 416, path="{finished}", headers={"Range": "bytes=99-"}),
    Case("downloadUpload", 423, "UPLOAD_NOT_READY", "{waiting}"),
    Case("terminateUpload", 204, path="{doomed}"),
    Case("terminateUpload", 401, "UNAUTHORIZED", "{anns}", server="guarded"),
    Case("terminateUpload", 403, "FORBIDDEN", "{anns}", BOB, server="guarded"),
    Case("terminateUpload", 404, "UPLOAD_NOT_FOUND", "/files/unknown"),
    Case("terminateUpload", 405, "METHOD_NOT_ALLOWED", "/files/unknown", server="bare"),
    Case("terminateUpload", 410, "UPLOAD_EXPIRED", "{gone}"),
    Case("terminateUpload", 412, "UNSUPPORTED_VERSION", "{empty}", NOT_1),
    *(
        case
        for name, kind in (("getStatus", ".status"), ("watchUpload", ".events"))
        for case in (
            Case(name, 200, path=f"{kind} {{finished}}"),
            Case(name, 401, "UNAUTHORIZED", f"{kind} {{anns}}", server="guarded"),
            Case(name, 403, "FORBIDDEN", f"{kind} {{anns}}", BOB, server="guarded"),
            Case(name, 404, "UPLOAD_NOT_FOUND", f"/files/{kind}/unknown"),
            Case(name, 410, "UPLOAD_EXPIRED", f"{kind} {{gone}}"),
        )
    ),
    Case("getStatus", 200, path=".status {empty}"),
    Case("getStatus", 200, path=".status {deferred}"),
    Case("getStatus", 200, path=".status {anns}", headers=ANN, server="guarded"),
    Case("watchUpload", 204, path=".events {finished}", headers={"Last-Event-ID": "end"}),
    Case("watchUploads", 200, path="/files/.events", headers=ANN, server="guarded"),
    Case("listUploads", 200, path="/files/.uploads?state=paused&limit=1", headers=ANN, server="guarded"),
    Case("listUploads", 400, "INVALID_QUERY", "/files/.uploads?state=odd", ANN, server="guarded"),
    *(
        case
        for name, path in (("watchUploads", "/files/.events"), ("listUploads", "/files/.uploads"))
        for case in (
            Case(name, 401, "UNAUTHORIZED", path, server="guarded"),
            Case(name, 403, "FORBIDDEN", path, LIMITED, server="guarded"),
            Case(name, 404, "UPLOAD_NOT_FOUND", path),
        )
    ),
    Case("getHealth", 200, path="/health", tus=False),
    Case("getReadiness", 200, path="/ready", tus=False),
    Case("getMetrics", 200, path="/metrics", tus=False),
]


def test_every_documented_answer_is_exercised() -> None:
    documented = {(name, status) for name, operation in OPERATIONS.items() for status in operation["responses"]}
    exercised = {(case.operation, str(case.status)) for case in CASES}
    assert exercised <= documented
    missing = {pair for pair in documented - exercised if not is_tested_elsewhere(*pair)}
    assert not missing
    assert not {pair for pair in ELSEWHERE if pair in exercised or pair not in documented}


@dataclass(frozen=True)
class Scene:
    """Servers, and the paths of uploads on them, by name."""

    servers: dict[str, ServerProcess]
    paths: dict[str, str]

    def path_of(self, case: Case) -> str:
        kind, _, path = case.path.rpartition(" ")
        path = (path or OPERATIONS[case.operation]["path"]).format(**self.paths)
        return path.replace("/files/", f"/files/{kind}/") if kind else path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("openapi")
    tokens = folder / "tokens"
    tokens.write_text(
        "".join(f"{name * 10} {name} {actions}\n" for name, actions in (("anns", ""), ("bobs", ""), ("adds", "create")))
    )
    tokens.chmod(0o600)
    options = {
        "main": (
            "-max-size=1000",
            "-expiry=1h",
            "-expiry-sweep-interval=1h",
            "-metadata-strict",
            "-cors-allow-origin=^https://good",
        ),
        "bare": ("-disable-download", "-disable-termination", "-disable-concatenation"),
        "guarded": (f"-auth-tokens={tokens}",),
    }
    servers = {name: ServerProcess(folder / name, *arguments) for name, arguments in options.items()}
    try:
        for server in servers.values():
            server.start()
        yield Scene(servers, make_uploads(servers, folder / "main"))
    finally:
        for server in servers.values():
            server.__exit__()


def make_uploads(servers: dict[str, ServerProcess], directory: Path) -> dict[str, str]:
    tus, guarded = servers["main"].client(), servers["guarded"].client()
    partial, waiting_partial = tus.create(5, b"hello", upload_concat="partial"), tus.create(5, upload_concat="partial")
    gone = directory / tus.create(5).rsplit("/", 1)[1]
    gone.unlink()
    asyncio.run(bury(gone))
    return {
        "empty": tus.create(5, upload_metadata="filename d29ybGQ="),
        "finished": tus.create(5, b"hello"),
        "deferred": tus.create(),
        "doomed": tus.create(5),
        "partial": partial,
        "final": tus.create(upload_concat=f"final;{partial}"),
        "waiting_partial": waiting_partial,
        "waiting": tus.create(upload_concat=f"final;{waiting_partial}"),
        "gone": f"/files/{gone.name}",
        "anns": guarded.create(5, **ANN),
    }


async def bury(path: Path) -> None:
    """Leave behind what expiry leaves."""
    from tusd_py.fs.sync import GroupSync
    from tusd_py.infostore.tusd_dir import TusdDirectory

    await TusdDirectory(str(path.parent), group=GroupSync()).remove(path.name, tombstone=True)


def case_id(case: Case) -> str:
    return f"{case.operation}-{case.status}-{case.code or case.path}"


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_answers_are_as_documented(scene: Scene, case: Case) -> None:
    operation = OPERATIONS[case.operation]
    headers = {name: str(value).format(**scene.paths) for name, value in case.headers.items()}
    with scene.servers[case.server].client().connect() as connection:
        if operation["method"] in ("POST", "PATCH") and "Transfer-Encoding" not in headers:
            headers["Content-Length"] = str(len(case.body or b""))
        connection.send_head(operation["method"], scene.path_of(case), dict(headers), tus=case.tus)
        connection.send(case.body or b"")
        # a stream that goes on has no end to wait for
        answer = connection.answer("HEAD" if case.operation == "watchUploads" and case.status == 200 else operation["method"])
    assert answer.status == case.status, answer.text
    if case.code and operation["method"] != "HEAD":
        assert answer.text.startswith(f"ERR_{case.code}: ")
    check(answer, operation["responses"][str(case.status)], has_body=operation["method"] != "HEAD")


def check(answer: Answer, response: dict[str, Any], *, has_body: bool) -> None:
    """The answer is as this part of the document says."""
    for name, header in response.get("headers", {}).items():
        value: Any = answer.headers.get(name.lower())
        assert value is not None or not header.get("required"), f"{name} is missing"
        if value is not None:
            OAS31Validator(header["schema"]).validate(int(value) if header["schema"].get("type") == "integer" else value)
    contents = response.get("content")
    if not contents or not has_body:
        assert not answer.body
        return
    sent = answer.headers.get("content-type", "").partition(";")[0]
    if not sent and not answer.body:
        return
    content = contents.get(sent) or contents["*/*"]
    body = json.loads(answer.body) if sent == "application/json" else answer.body.decode()
    OAS31Validator(content["schema"]).validate(body)


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_no_method_is_left_out(scene: Scene, path: str) -> None:
    """What the server says it allows is what the document has. HEAD goes without saying where there is GET."""
    target = path.replace("{id}", scene.paths["finished"].rsplit("/", 1)[1])
    server = scene.servers["guarded" if path in ("/files/.events", "/files/.uploads") else "main"]
    answer = server.client().request("PUT", target, ANN)
    assert answer.status == 405
    allowed = set(answer.headers["allow"].split(", "))
    documented = {method.upper() for method in DOCUMENT["paths"][path] if method in METHODS}
    if "HEAD" not in documented:
        allowed.discard("HEAD")
    if "OPTIONS" not in documented:
        allowed.discard("OPTIONS")
    assert allowed == documented


def schemathesis_operations() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schemathesis
    schemathesis.serializer.alias(OFFSET_STREAM, "application/octet-stream")
    found = [result.ok() for result in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()]
    return [each for each in found if each.path != "/files/.events"]  # it goes on for a quarter of an hour


@pytest.mark.parametrize("operation", schemathesis_operations(), ids=lambda operation: operation.label)
@pytest.mark.parametrize("server", ["main", "guarded"])
def test_whatever_is_sent_the_answer_is_documented(scene: Scene, operation: Any, server: str) -> None:
    """Requests made up from the document, good ones and bad ones."""
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
    ]
    url = f"http://127.0.0.1:{scene.servers[server].port}"
    takes_something = any(operation.iter_parameters()) or operation.body
    for mode in GenerationMode if takes_something else [GenerationMode.POSITIVE]:

        @settings(max_examples=12, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def run(case: Any) -> None:
            response = case.call(base_url=url, timeout=20)
            case.validate_response(response, checks=checks)

        run()


def test_a_case_of_the_table_can_fail(scene: Scene) -> None:
    """The check itself is no formality."""
    answer = scene.servers["main"].client().request("GET", scene.paths["finished"])
    response = OPERATIONS["describeServer"]["responses"]["200"]
    with pytest.raises(AssertionError, match="Tus-Version is missing"):
        check(answer, response, has_body=True)
