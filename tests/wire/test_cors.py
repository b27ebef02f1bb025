"""Cross-origin requests, rows O01 to O07."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server import ServerProcess
from tests.support.wire import OFFSET_STREAM, Answer, TusClient, b64

ORIGIN = "https://app.example"
PREFLIGHT: dict[str, object] = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "tus-resumable,upload-offset",
}
ALLOWED_HEADERS = (
    "Authorization, Origin, X-Requested-With, X-Request-ID, X-HTTP-Method-Override, Content-Type, Upload-Length, "
    "Upload-Offset, Tus-Resumable, Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Incomplete, Upload-Complete, "
    "Upload-Draft-Interop-Version"
)
EXPOSED_HEADERS = (
    "Upload-Offset, Location, Upload-Length, Tus-Version, Tus-Resumable, Tus-Max-Size, Tus-Extension, Upload-Metadata, "
    "Upload-Defer-Length, Upload-Concat, Upload-Incomplete, Upload-Complete, Upload-Draft-Interop-Version"
)
SAFE_ORIGIN_FLAGS = (
    "-cors-allow-origin=good\\.example(:\\d+)?$",
    "-cors-allow-credentials",
    "-cors-allow-methods=PUT",
    "-cors-allow-headers=X-Custom,X-Other",
    "-cors-expose-headers=X-Shown",
    "-cors-max-age=600",
)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TusClient]:
    """A server with every -cors-* flag set."""
    with ServerProcess(tmp_path_factory.mktemp("strict"), *SAFE_ORIGIN_FLAGS) as server:
        yield server.client()


@pytest.fixture(scope="module")
def disabled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TusClient]:
    with ServerProcess(tmp_path_factory.mktemp("disabled"), "-disable-cors", "-cors-allow-origin=good") as server:
        yield server.client()


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TusClient]:
    with ServerProcess(tmp_path_factory.mktemp("limited"), "-max-size=100") as server:
        yield server.client()


def names(answer: Answer, header: str) -> set[str]:
    """A comma list as a set of lower-case names."""
    return {name.strip().lower() for name in answer.headers[header].split(",")}


def as_set(listed: str) -> set[str]:
    return {name.lower() for name in listed.split(", ")}


def cors_headers(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("target", ["/files/", "/files", "/files/" + "0" * 32])
def test_o01_preflight(tus: TusClient, target: str) -> None:
    answer = tus.request("OPTIONS", target, PREFLIGHT, tus=False)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "origin" in names(answer, "vary")
    assert names(answer, "access-control-allow-methods") >= as_set("POST, HEAD, PATCH, OPTIONS, GET, DELETE")
    assert names(answer, "access-control-allow-headers") >= as_set(ALLOWED_HEADERS)
    assert answer.headers["access-control-max-age"] == "86400"
    assert "access-control-expose-headers" not in answer.headers
    assert "access-control-allow-credentials" not in answer.headers


def test_o02_success(tus: TusClient) -> None:
    answer = tus.request("POST", tus.base, {"Origin": ORIGIN, "Upload-Length": 9})
    assert answer.status == 201
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "origin" in names(answer, "vary")
    assert names(answer, "access-control-expose-headers") >= as_set(EXPOSED_HEADERS)
    assert set(cors_headers(answer)) == {"access-control-allow-origin", "access-control-expose-headers"}


CHUNK = {"Content-Type": OFFSET_STREAM}
ERRORS = [
    (400, "POST", "/files/", {}, None, True),
    (400, "PATCH", "UPLOAD", {**CHUNK, "Upload-Offset": "x"}, b"more", True),
    (404, "HEAD", "/files/" + "0" * 32, {}, None, True),
    (404, "PATCH", "/files/" + "0" * 32, {**CHUNK, "Upload-Offset": 0}, b"more", True),
    (404, "GET", "/files/" + "0" * 32, {}, None, False),
    (404, "DELETE", "/files/" + "0" * 32, {}, None, True),
    (405, "PUT", "UPLOAD", {}, b"more", True),
    (405, "GET", "/files/", {}, None, False),
    (409, "PATCH", "UPLOAD", {**CHUNK, "Upload-Offset": 5}, b"more", True),
    (412, "POST", "/files/", {"Upload-Length": 9}, None, False),
    (412, "PATCH", "UPLOAD", {**CHUNK, "Upload-Offset": 4}, b"more", False),
    (413, "POST", "/files/", {"Upload-Length": 101}, None, True),
    (413, "PATCH", "UPLOAD", {**CHUNK, "Upload-Offset": 4}, b"too much by far", True),
    (415, "PATCH", "UPLOAD", {"Upload-Offset": 4}, b"more", True),
    (416, "GET", "UPLOAD", {"Range": "bytes=9-"}, None, False),
    (460, "PATCH", "UPLOAD", {**CHUNK, "Upload-Offset": 4, "Upload-Checksum": f"md5 {b64(bytes(16))}"}, b"more", True),
]


@pytest.mark.parametrize(
    ("status", "method", "target", "headers", "body", "version"), ERRORS, ids=[f"{case[0]}-{case[1]}" for case in ERRORS]
)
def test_o02_errors(
    limited: TusClient, status: int, method: str, target: str, headers: dict[str, object], body: bytes | None, version: bool
) -> None:
    path = limited.create(9, b"some")
    answer = limited.request(method, target.replace("UPLOAD", path), {"Origin": ORIGIN, **headers}, body, tus=version)
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "origin" in names(answer, "vary")
    assert names(answer, "access-control-expose-headers") >= as_set(EXPOSED_HEADERS)
    assert "access-control-allow-methods" not in answer.headers


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("OPTIONS", "/files/", {"Access-Control-Request-Method": "PATCH"}),
        ("POST", "/files/", {"Upload-Length": 9}),
        ("HEAD", "/files/" + "0" * 32, {}),
        ("GET", "/files/" + "0" * 32, {}),
    ],
    ids=["preflight", "POST", "HEAD", "GET"],
)
@pytest.mark.parametrize("origin", [ORIGIN, "null", "https://good.example.evil", "https://goodXexample"])
def test_o03_other_origin(strict: TusClient, origin: str, method: str, target: str, headers: dict[str, object]) -> None:
    answer = strict.request(method, target, {"Origin": origin, **headers})
    assert answer.status == 403
    assert method == "HEAD" or answer.text == "ERR_ORIGIN_NOT_ALLOWED: request origin is not allowed\n"
    assert cors_headers(answer) == {}
    assert "location" not in answer.headers
    assert "origin" in names(answer, "vary")


def test_o03_other_origin_changes_nothing(strict: TusClient) -> None:
    path = strict.create(9, b"some")
    refused: dict[str, object] = {"Origin": ORIGIN}
    assert strict.request("PATCH", path, {**CHUNK, **refused, "Upload-Offset": 4}, b"more").status == 403
    assert strict.request("DELETE", path, refused).status == 403
    assert strict.offset(path) == 4


@pytest.mark.parametrize("origin", ["https://good.example", "http://good.example:8080", "https://sub.good.example"])
def test_o03_the_expression_is_not_anchored(strict: TusClient, origin: str) -> None:
    answer = strict.request("OPTIONS", "/files/", {**PREFLIGHT, "Origin": origin}, tus=False)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)


def test_o04_without_origin(tus: TusClient) -> None:
    path = tus.create(9)
    for answer in (tus.request("OPTIONS", tus.base), tus.head(path), tus.get(path), tus.delete(path), tus.delete(path)):
        assert cors_headers(answer) == {}
        assert "origin" in names(answer, "vary")


def test_o05_credentials(strict: TusClient) -> None:
    origin = {"Origin": "https://good.example"}
    preflight = strict.request("OPTIONS", "/files/", {**PREFLIGHT, **origin}, tus=False)
    created = strict.request("POST", "/files/", {"Upload-Length": 9, **origin})
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert created.headers["access-control-allow-credentials"] == "true"
    assert created.headers["access-control-allow-origin"] == "https://good.example"


def test_o06_checksum_is_allowed(tus: TusClient) -> None:
    answer = tus.request("OPTIONS", "/files/", PREFLIGHT, tus=False)
    assert "upload-checksum" in names(answer, "access-control-allow-headers")


def test_o07_additions_are_exposed(tus: TusClient) -> None:
    answer = tus.request("POST", "/files/", {"Origin": ORIGIN, "Upload-Length": 9})
    assert names(answer, "access-control-expose-headers") >= {"upload-expires", "tus-checksum-algorithm"}


def test_cors_flags_add_to_the_lists(strict: TusClient) -> None:
    origin = {"Origin": "https://good.example"}
    preflight = strict.request("OPTIONS", "/files/", {**PREFLIGHT, **origin}, tus=False)
    assert names(preflight, "access-control-allow-methods") >= as_set("POST, HEAD, PATCH, OPTIONS, GET, DELETE, PUT")
    assert names(preflight, "access-control-allow-headers") >= as_set(ALLOWED_HEADERS) | {"x-custom", "x-other"}
    assert preflight.headers["access-control-max-age"] == "600"
    created = strict.request("POST", "/files/", {"Upload-Length": 9, **origin})
    assert names(created, "access-control-expose-headers") >= as_set(EXPOSED_HEADERS) | {"x-shown"}


def test_cors_disabled(disabled: TusClient) -> None:
    """No logic at all: no header of ours, and no origin is refused."""
    preflight = disabled.request("OPTIONS", "/files/", PREFLIGHT, tus=False)
    created = disabled.request("POST", "/files/", {"Origin": ORIGIN, "Upload-Length": 9})
    assert (preflight.status, created.status) == (200, 201)
    assert cors_headers(preflight) == cors_headers(created) == {}
    assert "vary" not in preflight.headers
    assert "vary" not in created.headers


def test_cors_broken_expression_is_fatal(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = ServerProcess(tmp_path_factory.mktemp("broken"), "-cors-allow-origin=(")
    with pytest.raises(RuntimeError, match="did not start"):
        server.start()
    assert server.wait() != 0
