"""Versions, OPTIONS, methods, their override, and URLs: rows C01 to C20."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.wire import OFFSET_STREAM, Answer, TusClient
from tests.wire import assert_refused, assert_version_refused, stored, uploads_on_disk

EXTENSIONS = {
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "checksum",
    "checksum-trailer",
    "termination",
    "concatenation",
    "concatenation-unfinished",
}
ALGORITHMS = {"sha1", "md5", "sha256", "sha512", "crc32", "crc32c", "blake3"}
UPLOAD_METHODS = {"GET", "HEAD", "PATCH", "DELETE", "OPTIONS"}
CREATION_METHODS = {"POST", "OPTIONS"}
PATCH_HEADERS: dict[str, object] = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM}


def listed(value: str) -> list[str]:
    return value.split(",")


def allowed(answer: Answer) -> set[str]:
    return {method.strip() for method in answer.headers["allow"].split(",")}


ANY_OUTCOME: list[tuple[str, int, Callable[[TusClient, str], Answer]]] = [
    ("POST-201", 201, lambda tus, _: tus.request("POST", "/files/", {"Upload-Length": 1})),
    ("HEAD-200", 200, lambda tus, path: tus.head(path)),
    ("PATCH-204", 204, lambda tus, path: tus.patch(path, 0, b"hello")),
    ("DELETE-204", 204, lambda tus, path: tus.delete(path)),
    ("GET-200", 200, lambda tus, path: tus.get(path)),
    ("POST-400", 400, lambda tus, _: tus.request("POST", "/files/")),
    ("HEAD-404", 404, lambda tus, _: tus.head("/files/unknown")),
    ("PATCH-404", 404, lambda tus, _: tus.patch("/files/unknown", 0, b"")),
    ("DELETE-404", 404, lambda tus, _: tus.delete("/files/unknown")),
    ("GET-404", 404, lambda tus, _: tus.get("/files/unknown")),
    ("PUT-405", 405, lambda tus, path: tus.request("PUT", path)),
    ("PATCH-409", 409, lambda tus, path: tus.patch(path, 3, b"")),
    ("POST-412", 412, lambda tus, _: tus.request("POST", "/files/", {"Upload-Length": 1}, tus=False)),
    ("PATCH-413", 413, lambda tus, path: tus.patch(path, 0, b"x" * 11)),
    ("PATCH-415", 415, lambda tus, path: tus.request("PATCH", path, {"Upload-Offset": 0}, b"hello")),
]


@pytest.mark.parametrize(("status", "act"), [pytest.param(s, act, id=f"C01-{name}") for name, s, act in ANY_OUTCOME])
def test_c01_every_answer_names_the_version(tus: TusClient, status: int, act: Callable[[TusClient, str], Answer]) -> None:
    answer = act(tus, tus.create(10))
    assert (answer.status, answer.headers.get("tus-resumable")) == (status, "1.0.0")


VERSIONS = [
    pytest.param(None, id="C02-missing"),
    pytest.param("0.2.2", id="C03-older"),
    pytest.param("2.0.0", id="C03-newer"),
    pytest.param("1.0", id="C03-short"),
    pytest.param("foo", id="C03-word"),
]


@pytest.mark.parametrize("version", VERSIONS)
class TestC02C03Version:
    """POST, PATCH and DELETE without our version: 412, and nothing happens."""

    @staticmethod
    def headers(version: str | None, **others: object) -> dict[str, object]:
        given = {} if version is None else {"Tus-Resumable": version}
        return {**given, **{name.replace("_", "-"): value for name, value in others.items()}}

    def test_post_creates_nothing(self, tus: TusClient, shared_server: ServerProcess, version: str | None) -> None:
        before = uploads_on_disk(shared_server)
        assert_version_refused(tus.request("POST", "/files/", self.headers(version, Upload_Length=5), tus=False))
        assert uploads_on_disk(shared_server) == before

    def test_patch_changes_nothing(self, tus: TusClient, shared_server: ServerProcess, version: str | None) -> None:
        path = tus.create(5)
        headers = self.headers(version, Upload_Offset=0, Content_Type=OFFSET_STREAM)
        assert_version_refused(tus.request("PATCH", path, headers, b"hello", tus=False))
        assert tus.offset(path) == 0
        assert stored(shared_server, path) == b""

    def test_delete_deletes_nothing(self, tus: TusClient, version: str | None) -> None:
        path = tus.create(5, b"he")
        assert_version_refused(tus.request("DELETE", path, self.headers(version), tus=False))
        assert tus.offset(path) == 2


@pytest.mark.parametrize("version", ["0.2.2", "2.0.0", "foo"])
def test_c04_head_of_another_version(tus: TusClient, version: str) -> None:
    answer = tus.head(tus.create(5), Tus_Resumable=version)
    assert (answer.status, answer.headers.get("tus-version")) == (412, "1.0.0")
    assert answer.offset is None


def test_c05_head_without_a_version(tus: TusClient) -> None:
    answer = tus.request("HEAD", tus.create(5, b"he"), tus=False)
    assert (answer.status, answer.offset, answer.headers["upload-length"]) == (200, 2, "5")


@pytest.mark.parametrize("target", ["/files/", "/files", "upload"])
def test_c06_options(tus: TusClient, target: str) -> None:
    answer = tus.request("OPTIONS", tus.create(5) if target == "upload" else target, tus=False)
    assert (answer.status, answer.headers["tus-version"], answer.body) == (200, "1.0.0", b"")
    assert answer.headers["content-length"] == "0"


def test_c07_extensions(tus: TusClient) -> None:
    extensions = listed(tus.request("OPTIONS", "/files/", tus=False).headers["tus-extension"])
    assert len(extensions) == len(set(extensions))
    assert set(extensions) == EXTENSIONS


@pytest.mark.parametrize(
    ("flags", "missing", "added"),
    [
        pytest.param(["-expiry=1h"], set(), {"expiration"}, id="C07-expiry"),
        pytest.param(["-disable-termination"], {"termination"}, set(), id="C07-no-termination"),
        pytest.param(
            ["-disable-concatenation"], {"concatenation", "concatenation-unfinished"}, set(), id="C07-no-concatenation"
        ),
    ],
)
def test_c07_extensions_follow_the_flags(
    start_server: StartServer, flags: list[str], missing: set[str], added: set[str]
) -> None:
    answer = start_server(*flags).client().request("OPTIONS", "/files/", tus=False)
    assert set(listed(answer.headers["tus-extension"])) == EXTENSIONS - missing | added


def test_c08_no_limit_no_max_size(tus: TusClient) -> None:
    assert "tus-max-size" not in tus.request("OPTIONS", "/files/", tus=False).headers


def test_c08_max_size(start_server: StartServer) -> None:
    answer = start_server("-max-size=1000").client().request("OPTIONS", "/files/", tus=False)
    assert answer.headers["tus-max-size"] == "1000"


@pytest.mark.parametrize("version", ["9.9", "foo", ""])
def test_c09_options_ignores_the_version(tus: TusClient, version: str) -> None:
    answer = tus.request("OPTIONS", "/files/", {"Tus-Resumable": version}, tus=False)
    plain = tus.request("OPTIONS", "/files/", tus=False)
    assert (answer.status, answer.headers["tus-version"]) == (200, "1.0.0")
    assert answer.headers["tus-extension"] == plain.headers["tus-extension"]


def test_c10_checksum_algorithms(tus: TusClient) -> None:
    algorithms = listed(tus.request("OPTIONS", "/files/", tus=False).headers["tus-checksum-algorithm"])
    assert len(algorithms) == len(set(algorithms))
    assert set(algorithms) == ALGORITHMS


@pytest.mark.parametrize("real", ["POST", "GET", "PUT", "DELETE"])
@pytest.mark.parametrize("spelling", ["PATCH", "patch", "Patch"])
def test_c11_c13_c14_override_patch(tus: TusClient, shared_server: ServerProcess, real: str, spelling: str) -> None:
    path = tus.create(10)
    answer = tus.request(real, path, {**PATCH_HEADERS, "X-HTTP-Method-Override": spelling}, b"hello")
    assert (answer.status, answer.offset, answer.body) == (204, 5, b"")
    assert stored(shared_server, path) == b"hello"


@pytest.mark.parametrize("real", ["POST", "GET", "PATCH", "PUT"])
def test_c12_c13_override_delete(tus: TusClient, real: str) -> None:
    path = tus.create(10)
    assert tus.request(real, path, {"X-HTTP-Method-Override": "DELETE"}).status == 204
    assert tus.head(path).status == 404


@pytest.mark.parametrize("real", ["POST", "GET", "PATCH"])
def test_c12_c13_override_head(tus: TusClient, real: str) -> None:
    """To the parser of the other side it stays an answer to the real method: it may not announce a body that doesn't follow."""
    path = tus.create(10, b"hello")
    with tus.connect() as connection:
        answer = connection.request(real, path, {"X-HTTP-Method-Override": "HEAD"})
        assert (answer.status, answer.offset, answer.headers["upload-length"]) == (200, 5, "10")
        assert answer.body == b""
        assert connection.request("HEAD", path).offset == 5


def test_c12_override_get(tus: TusClient) -> None:
    path = tus.create(5, b"hello")
    answer = tus.request("POST", path, {"X-HTTP-Method-Override": "GET"})
    assert (answer.status, answer.body) == (200, b"hello")


def test_c13_override_post(tus: TusClient) -> None:
    answer = tus.request("PUT", "/files/", {"X-HTTP-Method-Override": "POST", "Upload-Length": 5})
    assert answer.status == 201
    assert "location" in answer.headers


def test_c14_override_by_an_unknown_method(tus: TusClient) -> None:
    path = tus.create(5)
    answer = tus.request("POST", path, {"X-HTTP-Method-Override": "BREW"})
    assert (answer.status, answer.body) == (405, b"ERR_METHOD_NOT_ALLOWED: method not allowed\n")


@pytest.mark.parametrize(
    ("method", "target", "methods"),
    [
        pytest.param("PUT", "upload", UPLOAD_METHODS, id="C15-PUT"),
        pytest.param("M-SEARCH", "upload", UPLOAD_METHODS, id="C15-unknown"),
        pytest.param("GET", "/files/", CREATION_METHODS, id="C16-GET"),
        pytest.param("PATCH", "/files/", CREATION_METHODS, id="C16-PATCH"),
        pytest.param("DELETE", "/files/", CREATION_METHODS, id="C16-DELETE"),
        pytest.param("GET", "/files", CREATION_METHODS, id="C16-GET-no-slash"),
        pytest.param("POST", "upload", UPLOAD_METHODS, id="C17-POST"),
    ],
)
def test_c15_c16_c17_method_not_allowed(tus: TusClient, method: str, target: str, methods: set[str]) -> None:
    # tusd: 405 with `Allow: GET, HEAD, PATCH, DELETE` whatever is enabled; RFC 9110, 10.2.1 wants what the resource supports
    answer = tus.request(method, tus.create(5) if target == "upload" else target, {"Upload-Length": 5})
    assert_refused(answer, 405, "ERR_METHOD_NOT_ALLOWED")
    assert answer.text == "ERR_METHOD_NOT_ALLOWED: method not allowed\n"
    assert allowed(answer) == methods


def test_c16_head_on_the_creation_url(tus: TusClient) -> None:
    answer = tus.head("/files/")
    assert (answer.status, allowed(answer)) == (405, CREATION_METHODS)


@pytest.mark.parametrize(
    ("flag", "disabled"),
    [
        pytest.param("-disable-download", "GET", id="C15-no-download"),
        pytest.param("-disable-termination", "DELETE", id="C15-no-termination"),
    ],
)
def test_c15_allow_lists_only_what_is_enabled(start_server: StartServer, flag: str, disabled: str) -> None:
    tus = start_server(flag).client()
    path = tus.create(5)
    answer = tus.request(disabled, path)
    assert_refused(answer, 405, "ERR_METHOD_NOT_ALLOWED")
    assert allowed(answer) == UPLOAD_METHODS - {disabled}
    assert tus.offset(path) == 0


def test_c17_post_to_an_upload_changes_nothing(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(5, b"he")
    before = uploads_on_disk(shared_server)
    assert tus.request("POST", path, {"Upload-Length": 9}).status == 405
    assert uploads_on_disk(shared_server) == before
    assert (tus.offset(path), tus.head(path).headers["upload-length"]) == (2, "5")


@pytest.mark.parametrize("target", ["/files", "/files/"])
def test_c18_creation_url_with_and_without_slash(tus: TusClient, target: str) -> None:
    answer = tus.request("POST", target, {"Upload-Length": 5})
    assert answer.status == 201
    assert answer.headers["location"].startswith(f"http://127.0.0.1:{tus.address[1]}/files/")


@pytest.mark.parametrize("way", ["/filesx{id}", "/files{id}", "/file/{id}", "/{id}", "/FILES/{id}"])
def test_c18_other_paths_are_no_uploads(tus: TusClient, way: str) -> None:
    path = tus.create(5, b"hello")
    other = way.format(id=path.rsplit("/", 1)[1])
    for method in ("HEAD", "GET", "PATCH", "DELETE", "POST"):
        headers = {"Upload-Offset": 5, "Content-Type": OFFSET_STREAM} if method == "PATCH" else {}
        answer = tus.request(method, other, headers)
        assert "tus-resumable" not in answer.headers, (method, answer.status)
        assert answer.body != b"hello"
    assert tus.offset(path) == 5


def test_c19_upload_url_with_trailing_slash(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(10)
    assert tus.patch(path + "/", 0, b"hello").offset == 5
    assert (tus.offset(path + "/"), tus.offset(path)) == (5, 5)
    assert tus.get(path + "/").body == b"hello"
    assert tus.delete(path + "/").status == 204
    assert tus.head(path).status == 404


def test_c20_header_names_in_any_case(tus: TusClient, shared_server: ServerProcess) -> None:
    answer = tus.request("POST", "/files/", {"tus-resumable": "1.0.0", "UPLOAD-LENGTH": 5, "upload-METADATA": "a YQ=="})
    assert answer.status == 201
    path = answer.headers["location"].split(str(tus.address[1]), 1)[1]
    assert tus.head(path).headers["upload-metadata"] == "a YQ=="
    assert tus.request("PATCH", path, {"uPLOAD-oFFSET": 0, "CONTENT-TYPE": OFFSET_STREAM}, b"hello").offset == 5
    assert stored(shared_server, path) == b"hello"


@pytest.mark.parametrize("lengths", [(5, 6), (6, 5), (5, "abc")])
def test_c20_conflicting_lengths(tus: TusClient, shared_server: ServerProcess, lengths: tuple[object, object]) -> None:
    before = uploads_on_disk(shared_server)
    answer = tus.request("POST", "/files/", [("Upload-Length", lengths[0]), ("Upload-Length", lengths[1])])
    assert_refused(answer, 400, "ERR_INVALID_UPLOAD_LENGTH")
    assert uploads_on_disk(shared_server) == before


@pytest.mark.parametrize("offsets", [(0, 3), (3, 0), (0, "abc")])
def test_c20_conflicting_offsets(tus: TusClient, shared_server: ServerProcess, offsets: tuple[object, object]) -> None:
    path = tus.create(5)
    headers = [("Upload-Offset", offsets[0]), ("upload-offset", offsets[1]), ("Content-Type", OFFSET_STREAM)]
    assert_refused(tus.request("PATCH", path, headers, b"hello"), 400, "ERR_INVALID_OFFSET")
    assert (tus.offset(path), stored(shared_server, path)) == (0, b"")
