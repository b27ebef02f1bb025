"""Upload-Metadata: rows M01 to M11, lenient (as tusd) and with `-metadata-strict`."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from tests.support.server import ServerProcess
from tests.support.wire import Answer, TusClient, b64, path_of
from tests.wire import assert_in_sync, assert_refused, uploads_on_disk


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("strict") / "data", "-metadata-strict") as server:
        yield server


def create(tus: TusClient, metadata: str) -> Answer:
    return tus.request("POST", "/files/", {"Upload-Length": 5, "Upload-Metadata": metadata})


def echoed(tus: TusClient, metadata: str) -> str | None:
    """What HEAD shows for an upload created with `metadata`."""
    answer = create(tus, metadata)
    assert answer.status == 201, answer.body
    return tus.head(path_of(answer.headers["location"])).headers.get("upload-metadata")


def decoded(header: str | None) -> dict[str, bytes]:
    """An independent reading of a well-formed Upload-Metadata value; keys are unique."""
    pairs = [element.strip().partition(" ") for element in header.split(",")] if header else []
    found = {key: base64.b64decode(value, validate=True) for key, _, value in pairs}
    assert len(found) == len(pairs), header
    return found


WELL_FORMED = {
    "M01-example": "filename d29ybGQ=,is_conf",
    "M01-empty-with-blank": "filename d29ybGQ=,is_conf ",
    "M01-empty-first": "is_conf,filename d29ybGQ=",
    "M01-empty-alone": "is_conf",
    "M01-order": "z eg==,a YQ==,m bQ==",
    "M06-blank-after-comma": "a YQ==, b Yg==",
    "M06-blanks-around-comma": "a YQ== ,  b Yg==",
    "M07-non-ascii-key": "ключ YQ==",
    "M07-emoji-key": "\U0001f600 YQ==,b Yg==",
    "M09-binary": "bin /wD+",
    "M09-all-bytes": f"bin {b64(bytes(range(256)))}",
    "M10-line-breaks": f"filename {b64(b'a' + bytes([13, 10]) + b'Evil: 1')}",
    "M10-quotes": f"filename {b64(b'a' + bytes([34]) + b';b' + bytes([92]))}",
    "M01-punctuation-in-key": "a.b-c_d/e!f@g YQ==",
}


@pytest.mark.parametrize("metadata", [pytest.param(value, id=name) for name, value in WELL_FORMED.items()])
class TestWellFormed:
    """Echoed as the client wrote it, strict or not."""

    def test_lenient(self, tus: TusClient, metadata: str) -> None:
        assert echoed(tus, metadata) == metadata.strip()

    def test_strict(self, strict_server: ServerProcess, metadata: str) -> None:
        assert echoed(strict_server.client(), metadata) == metadata.strip()


@pytest.mark.parametrize("metadata", ["", " ", "  \t "])
class TestEmpty:
    """M02: tuspy always sends the header, and nothing in it means nothing."""

    def test_m02_lenient(self, tus: TusClient, metadata: str) -> None:
        assert echoed(tus, metadata) is None

    def test_m02_strict(self, strict_server: ServerProcess, metadata: str) -> None:
        assert echoed(strict_server.client(), metadata) is None


BAD: dict[str, tuple[str, dict[str, bytes]]] = {
    "M03-duplicate": ("a YQ==,a Yg==", {"a": b"b"}),
    "M03-duplicate-apart": ("a YQ==,b Yg==,a Yw==", {"a": b"c", "b": b"b"}),
    "M04-not-base64": ("a !!!!,b Yg==", {"b": b"b"}),
    "M04-no-padding": ("a YQ,b Yg==", {"b": b"b"}),
    "M04-url-safe-alphabet": ("a _-8=,b Yg==", {"b": b"b"}),
    "M04-padding-inside": ("a YQ==YQ==,b Yg==", {"b": b"b"}),
    "M04-non-ascii-value": ("a YQ==é,b Yg==", {"b": b"b"}),
    "M05-three-tokens": ("a YQ== Yg==,b Yg==", {"b": b"b"}),
    "M05-two-blanks": ("a  YQ==,b Yg==", {"b": b"b"}),
    "M05-nothing-between-commas": ("a YQ==,,b Yg==", {"a": b"a", "b": b"b"}),
    "M05-comma-at-the-end": ("a YQ==,", {"a": b"a"}),
    "M08-tab": ("a\tYQ==,b Yg==", {"b": b"b"}),
}


@pytest.mark.parametrize(("metadata", "kept"), [pytest.param(*case, id=name) for name, case in BAD.items()])
class TestBad:
    """Lenient: a pair that can't be read is left out and never echoed, the last of equal keys counts. Strict: refused."""

    def test_lenient(self, tus: TusClient, metadata: str, kept: dict[str, bytes]) -> None:
        assert decoded(echoed(tus, metadata)) == kept

    def test_strict(self, strict_server: ServerProcess, metadata: str, kept: dict[str, bytes]) -> None:
        before = uploads_on_disk(strict_server)
        assert_refused(create(strict_server.client(), metadata), 400, "ERR_INVALID_METADATA")
        assert uploads_on_disk(strict_server) == before


def test_m05_empty_key_lenient(tus: TusClient) -> None:
    """The blank before an empty key is eaten with the comma: what remains is a key without a value, or nothing."""
    found = decoded(echoed(tus, "a YQ==, Yg=="))
    assert found.pop("a") == b"a"
    assert found in ({}, {"Yg==": b""})


def test_m02_a_strict_server_takes_uploads_without_metadata(strict_server: ServerProcess) -> None:
    tus = strict_server.client()
    assert "upload-metadata" not in tus.head(tus.create(5)).headers


@pytest.mark.parametrize("value", [b"a\r\nX-Evil: 1", b"a\nX-Evil: 1", b"a\r\n\r\nbody", b"\x00\r", 'ü";\\'.encode()])
@pytest.mark.parametrize("key", ["filename", "filetype", "other"])
def test_m10_decoded_values_reach_no_header_raw(tus: TusClient, key: str, value: bytes) -> None:
    path = tus.create(5, b"hello", Upload_Metadata=f"{key} {b64(value)}")
    with tus.connect() as connection:
        for method in ("HEAD", "GET"):
            answer = connection.request(method, path)
            assert answer.status == 200
            assert "x-evil" not in answer.headers
            assert not any(control in text for _, text in answer.all_headers for control in "\r\n\0")
            assert answer.body == (b"hello" if method == "GET" else b"")
        assert_in_sync(connection)


def test_m07_latin_1_key_is_echoed_byte_by_byte(tus: TusClient) -> None:
    """Header values are bytes (RFC 9110, 5.5): what isn't UTF-8 comes back as it came, too."""
    with tus.connect() as connection:
        head = b"POST /files/ HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 5\r\n"
        connection.send(head + b"Upload-Metadata: caf\xe9 YQ==,b Yg==\r\nContent-Length: 0\r\n\r\n")
        answer = connection.answer("POST")
        assert answer.status == 201
        shown = connection.request("HEAD", path_of(answer.headers["location"])).headers["upload-metadata"]
    assert shown.encode("utf-8", "surrogateescape") == b"caf\xe9 YQ==,b Yg=="


@pytest.mark.parametrize("size", [8 * 1024, 64 * 1024])
def test_m11_large_header(tus: TusClient, size: int) -> None:
    metadata = f"filename d29ybGQ=,big {b64(b'x' * (size * 3 // 4))}"
    assert echoed(tus, metadata) == metadata


def test_m11_many_pairs(tus: TusClient) -> None:
    metadata = ",".join(f"key{number} {b64(str(number))}" for number in range(1000))
    assert echoed(tus, metadata) == metadata


def test_m01_metadata_of_several_headers(tus: TusClient) -> None:
    """RFC 9110, 5.3: lines of a list header are one list."""
    lines: list[tuple[str, object]] = [("Upload-Length", 5), ("Upload-Metadata", "a YQ=="), ("Upload-Metadata", "b Yg==")]
    answer = tus.request("POST", "/files/", lines)
    assert answer.status == 201
    shown = tus.head(path_of(answer.headers["location"])).headers["upload-metadata"]
    assert decoded(shown) == {"a": b"a", "b": b"b"}
