"""A directory that tusd has left opens as it is, and what we write is what tusd reads (section 4.5 of the reference)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import OFFSET_STREAM, TusClient, b64, path_of

TUSD_KEYS = ["ID", "Size", "SizeIsDeferred", "Offset", "MetaData", "IsPartial", "IsFinal", "PartialUploads", "Storage"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("tusd") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> TusClient:
    return server.client()


@pytest.fixture(scope="module")
def directory(server: ServerProcess) -> Path:
    return server.upload_dir


def leave(
    directory: Path, data: bytes | None, size: int, *, place: Path | None = None, told: str | None = None, **keys: object
) -> str:
    """What tusd leaves of an upload of which `data` has arrived; returns its path.

    `place` is where the bytes are, if not in `<directory>/<id>`, and `told` is what the record says of that place.
    """
    name = uuid4().hex
    place = place or directory / name
    flags = {
        "ID": name,
        "Size": size,
        "SizeIsDeferred": False,
        "Offset": 0,
        "MetaData": {},
        "IsPartial": False,
        "IsFinal": False,
    }
    storage = {"InfoPath": f"{directory / name}.info", "Path": told or str(place), "Type": "filestore"}
    record = {**flags, "PartialUploads": None, "Storage": storage, **keys}
    (directory / f"{name}.info").write_text(json.dumps(record, separators=(",", ":"), ensure_ascii=False))
    if data is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return f"/files/{name}"


def name_of(path: str) -> str:
    return path.rsplit("/", 1)[1]


def record_text(directory: Path, path: str) -> str:
    return (directory / f"{name_of(path)}.info").read_text()


def files_of(directory: Path, name: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.glob(f"{name}*")}


def test_in_flight(client: TusClient, directory: Path) -> None:
    path = leave(directory, b"hello ", 11)
    head = client.head(path)
    assert (head.status, head.offset, head.headers["upload-length"]) == (200, 6, "11")
    assert client.patch(path, 6, b"world").offset == 11
    assert client.get(path).body == b"hello world"
    assert (directory / name_of(path)).read_bytes() == b"hello world"


def test_nothing_arrived_yet(client: TusClient, directory: Path) -> None:
    path = leave(directory, b"", 11)
    assert client.offset(path) == 0
    assert client.patch(path, 0, b"hello world").offset == 11


def test_finished(client: TusClient, directory: Path) -> None:
    path = leave(directory, b"hello world", 11)
    assert client.offset(path) == 11
    assert client.get(path).body == b"hello world"
    assert client.delete(path).status == 204
    assert files_of(directory, name_of(path)) == {}


def test_offset_in_the_record_does_not_count(client: TusClient, directory: Path) -> None:
    """tusd writes it at creation and never again; the size of the file is the offset."""
    path = leave(directory, b"hello ", 11, Offset=3)
    assert client.offset(path) == 6


def test_deferred(client: TusClient, directory: Path) -> None:
    path = leave(directory, b"hello ", 0, SizeIsDeferred=True)
    head = client.head(path)
    assert (head.offset, head.headers["upload-defer-length"], head.headers.get("upload-length")) == (6, "1", None)
    assert client.patch(path, 6, b"world", upload_length=11).offset == 11
    head = client.head(path)
    assert (head.headers["upload-length"], head.headers.get("upload-defer-length")) == ("11", None)
    record = json.loads(record_text(directory, path))
    assert (record["Size"], record["SizeIsDeferred"]) == (11, False)


def test_partials_become_a_final(client: TusClient, directory: Path) -> None:
    first, second = leave(directory, b"hello ", 6, IsPartial=True), leave(directory, b"wor", 5, IsPartial=True)
    assert client.head(first).headers["upload-concat"] == "partial"
    assert client.patch(second, 3, b"ld").offset == 5
    final = client.create(upload_concat=f"final;{first} {second}")
    assert client.get(final).body == b"hello world"


def test_final(client: TusClient, directory: Path) -> None:
    parts = [leave(directory, data, len(data), IsPartial=True) for data in (b"hello ", b"world")]
    path = leave(directory, b"hello world", 11, IsFinal=True, PartialUploads=[name_of(part) for part in parts])
    head = client.head(path)
    assert (head.status, head.offset, head.headers["upload-length"]) == (200, 11, "11")
    value = head.headers["upload-concat"]
    assert value.startswith("final;")
    assert [path_of(url) for url in value.removeprefix("final;").split()] == parts
    assert client.patch(path, 11, b"").status == 403
    assert client.get(path).body == b"hello world"


def test_metadata(client: TusClient, directory: Path) -> None:
    path = leave(directory, b"hello", 5, MetaData={"filename": "übung.txt", "filetype": "text/plain", "empty": ""})
    pairs = {pair.partition(" ")[0]: pair.partition(" ")[2] for pair in client.head(path).headers["upload-metadata"].split(",")}
    assert pairs == {"filename": b64("übung.txt"), "filetype": b64("text/plain"), "empty": ""}
    answer = client.get(path)
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-disposition"].startswith("inline;")


@pytest.mark.parametrize("value", [None, {}])
def test_no_metadata(client: TusClient, directory: Path, value: object) -> None:
    head = client.head(leave(directory, b"he", 5, MetaData=value))
    assert (head.status, head.headers.get("upload-metadata", "")) == (200, "")


def test_custom_path_in_a_sub_directory(client: TusClient, directory: Path) -> None:
    """A pre-create hook may have said so."""
    place = directory / "2024" / "may" / "report.bin"
    path = leave(directory, b"hello ", 11, place=place)
    assert client.offset(path) == 6
    assert client.patch(path, 6, b"world").offset == 11
    assert place.read_bytes() == b"hello world"
    assert client.get(path).body == b"hello world"
    assert not (directory / name_of(path)).exists()
    assert client.delete(path).status == 204
    assert not place.exists()


def test_minimal_record(client: TusClient, directory: Path) -> None:
    name = uuid4().hex
    (directory / f"{name}.info").write_text(json.dumps({"ID": name, "Size": 5}))
    (directory / name).write_bytes(b"he")
    assert client.offset(f"/files/{name}") == 2
    assert client.patch(f"/files/{name}", 2, b"llo").offset == 5
    assert client.get(f"/files/{name}").body == b"hello"


@pytest.mark.parametrize(
    "missing", ["SizeIsDeferred", "Offset", "MetaData", "IsPartial", "IsFinal", "PartialUploads", "Storage"]
)
def test_missing_key(client: TusClient, directory: Path, missing: str) -> None:
    path = leave(directory, b"he", 5)
    record = json.loads(record_text(directory, path))
    del record[missing]
    (directory / f"{name_of(path)}.info").write_text(json.dumps(record))
    assert client.offset(path) == 2
    assert client.patch(path, 2, b"llo").offset == 5


@pytest.mark.parametrize("storage", [{}, {"Type": "filestore"}, {"Path": "", "Type": "filestore"}, None])
def test_missing_place(client: TusClient, directory: Path, storage: object) -> None:
    path = leave(directory, b"he", 5, Storage=storage)
    assert client.patch(path, 2, b"llo").offset == 5
    assert client.get(path).body == b"hello"


def test_unknown_keys_are_ignored(client: TusClient, directory: Path) -> None:
    path = leave(directory, b"he", 5, Tomorrow={"a": [1, 2.5, None]})
    assert client.patch(path, 2, b"llo").offset == 5


def test_case_of_keys_is_ignored(client: TusClient, directory: Path) -> None:
    name = uuid4().hex
    (directory / f"{name}.info").write_text(json.dumps({"id": name, "size": 5, "metadata": {"a": "b"}}))
    (directory / name).write_bytes(b"he")
    head = client.head(f"/files/{name}")
    assert (head.offset, head.headers["upload-length"], head.headers["upload-metadata"]) == (2, "5", "a Yg==")


@pytest.mark.parametrize("old", ["/mnt/gone/upload", "/nowhere/at/all/upload"])
def test_moved_directory(client: TusClient, directory: Path, old: str) -> None:
    path = leave(directory, b"hello ", 11, told=old)
    assert client.offset(path) == 6
    assert client.patch(path, 6, b"world").offset == 11
    assert client.get(path).body == b"hello world"


def test_moved_while_the_server_was_down(start_server: StartServer, tmp_path: Path) -> None:
    first = start_server(upload_dir=tmp_path / "old")
    path = first.client().create(11, b"hello ", upload_metadata="a Yg==")
    assert first.terminate() == 0
    (tmp_path / "old").rename(tmp_path / "new")
    client = start_server(upload_dir=tmp_path / "new").client()
    assert client.head(path).headers["upload-metadata"] == "a Yg=="
    assert client.patch(path, 6, b"world").offset == 11
    assert client.get(path).body == b"hello world"
    assert not (tmp_path / "old").exists()


@pytest.mark.parametrize(
    "content", [b"999999999\n", b"", b"garbage", b"\xff\xfe", b"1\n"], ids=["dead", "empty", "garbage", "binary", "foreign"]
)
@pytest.mark.parametrize("suffix", [".lock", ".stop", ".lock.123"])
def test_leftovers_of_tusds_locks(client: TusClient, directory: Path, suffix: str, content: bytes) -> None:
    path = leave(directory, b"hello ", 11)
    (directory / (name_of(path) + suffix)).write_bytes(content)
    assert client.offset(path) == 6
    assert client.patch(path, 6, b"world").offset == 11
    assert client.get(path).body == b"hello world"
    assert client.delete(path).status == 204
    assert client.head(path).status == 404


def test_bytes_without_a_record(client: TusClient, directory: Path) -> None:
    name = uuid4().hex
    (directory / name).write_bytes(b"hello")
    assert client.head(f"/files/{name}").status == 404
    assert client.get(f"/files/{name}").status == 404
    assert (directory / name).read_bytes() == b"hello"


def test_record_without_bytes(client: TusClient, directory: Path) -> None:
    path = leave(directory, None, 11)
    answers = [client.head(path), client.get(path), client.patch(path, 0, b"hello")]
    assert {answer.status for answer in answers} in ({404}, {410})
    assert answers[0].offset is None


DAMAGED = {
    "empty": b"",
    "blank": b"   \n",
    "truncated": b'{"ID":"@","Size":11,"SizeIsDe',
    "not-json": b"hello world",
    "nul-bytes": bytes(300),
    "null": b"null",
    "number": b"11",
    "list": b'["@",11]',
    "string": b'"@"',
    "two-documents": b'{"ID":"@","Size":11}{"ID":"@","Size":11}',
    "size-string": b'{"ID":"@","Size":"11"}',
    "size-negative": b'{"ID":"@","Size":-1}',
    "size-fraction": b'{"ID":"@","Size":11.5}',
    "size-list": b'{"ID":"@","Size":[11]}',
    "size-beyond-int64": b'{"ID":"@","Size":9223372036854775808}',
    "size-nan": b'{"ID":"@","Size":NaN}',
    "size-huge": b'{"ID":"@","Size":' + b"9" * 5000 + b"}",
    "id-number": b'{"ID":5,"Size":11}',
    "deferred-string": b'{"ID":"@","Size":11,"SizeIsDeferred":"yes"}',
    "metadata-list": b'{"ID":"@","Size":11,"MetaData":["a","b"]}',
    "metadata-number": b'{"ID":"@","Size":11,"MetaData":{"a":5}}',
    "partial-string": b'{"ID":"@","Size":11,"IsPartial":"yes"}',
    "parts-string": b'{"ID":"@","Size":11,"IsFinal":true,"PartialUploads":"x"}',
    "parts-numbers": b'{"ID":"@","Size":11,"IsFinal":true,"PartialUploads":[1,2]}',
    "storage-string": b'{"ID":"@","Size":11,"Storage":"/x"}',
    "path-number": b'{"ID":"@","Size":11,"Storage":{"Path":5}}',
    "nested-deep": b"[" * 100_000,
}


def damage(directory: Path, content: bytes) -> tuple[str, dict[str, bytes]]:
    """An upload whose record says this; its path and what is on the disk of it."""
    name = uuid4().hex
    (directory / f"{name}.info").write_bytes(content.replace(b"@", name.encode()))
    (directory / name).write_bytes(b"hello ")
    return f"/files/{name}", files_of(directory, name)


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_record(client: TusClient, directory: Path, content: bytes) -> None:
    path, before = damage(directory, content)
    head, get, patch = client.head(path), client.get(path), client.patch(path, 6, b"world")
    assert [answer.status for answer in (head, get, patch)] == [410, 410, 410]
    assert head.offset is None
    assert get.text.startswith("ERR_UPLOAD_DAMAGED: ")
    assert patch.text.startswith("ERR_UPLOAD_DAMAGED: ")
    assert files_of(directory, name_of(path)) == before


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_record_deleted(client: TusClient, directory: Path, content: bytes) -> None:
    path, before = damage(directory, content)
    answer = client.delete(path)
    assert answer.status in (204, 410)
    assert files_of(directory, name_of(path)) == (before if answer.status == 410 else {})


def test_damaged_record_as_a_partial(client: TusClient, directory: Path) -> None:
    path, before = damage(directory, DAMAGED["truncated"])
    answer = client.request("POST", "/files/", {"Upload-Concat": f"final;{path}"})
    assert answer.status in (400, 404, 410)
    assert files_of(directory, name_of(path)) == before


def test_damaged_records_do_not_keep_the_server_from_starting(start_server: StartServer, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    left = [damage(directory, content) for content in DAMAGED.values()]
    good = leave(directory, b"hello ", 11)
    client = start_server("-expiry=1h", "-expiry-sweep-interval=100ms").client()
    assert client.patch(good, 6, b"world").offset == 11
    for path, before in left:
        assert client.head(path).status == 410
        assert files_of(directory, name_of(path)) == before


def test_more_bytes_than_the_record_says(client: TusClient, directory: Path) -> None:
    path = leave(directory, b"hello world", 5)
    head = client.head(path)
    assert (head.status, head.offset, head.headers["upload-length"]) == (200, 5, "5")
    assert client.patch(path, 5, b"!").status == 413
    assert client.patch(path, 11, b"!").status == 409
    assert (directory / name_of(path)).read_bytes() == b"hello world"


def test_we_write_what_tusd_writes(client: TusClient, directory: Path) -> None:
    path = client.create(11)
    name = name_of(path)
    place = directory / name
    assert record_text(directory, path) == (
        f'{{"ID":"{name}","Size":11,"SizeIsDeferred":false,"Offset":0,"MetaData":{{}},"IsPartial":false,"IsFinal":false,'
        f'"PartialUploads":null,"Storage":{{"InfoPath":"{place}.info","Path":"{place}","Type":"filestore"}}}}'
    )
    assert files_of(directory, name) == {name: b"", f"{name}.info": record_text(directory, path).encode()}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Upload-Length": 11}, {"Size": 11, "SizeIsDeferred": False, "IsPartial": False, "PartialUploads": None}),
        ({"Upload-Defer-Length": 1}, {"Size": 0, "SizeIsDeferred": True}),
        ({"Upload-Length": 11, "Upload-Concat": "partial"}, {"Size": 11, "IsPartial": True, "IsFinal": False}),
        ({"Upload-Length": 11, "Upload-Metadata": "b Yg==,a YQ=="}, {"MetaData": {"a": "a", "b": "b"}}),
    ],
    ids=["plain", "deferred", "partial", "metadata"],
)
def test_tusds_keys_come_first(
    client: TusClient, directory: Path, headers: dict[str, object], expected: dict[str, object]
) -> None:
    answer = client.request("POST", "/files/", {**headers, "Content-Type": OFFSET_STREAM}, b"hello ")
    assert answer.status == 201
    path = answer.headers["location"]
    text = record_text(directory, path)
    record = json.loads(text)
    assert list(record) in (TUSD_KEYS, [*TUSD_KEYS, "TusdPy"])
    assert {key: record[key] for key in expected} == expected
    assert list(record["MetaData"]) == sorted(record["MetaData"])
    assert list(record["Storage"]) == ["InfoPath", "Path", "Type"]
    assert record["Storage"]["Path"] == str(directory / name_of(path))
    assert Path(record["Storage"]["Path"]).stat().st_size == 6
    assert "\n" not in text


def test_final_as_tusd_writes_it(client: TusClient, directory: Path) -> None:
    parts = [client.create(len(data), data, upload_concat="partial") for data in (b"hello ", b"world")]
    path = client.create(upload_concat="final;" + " ".join(parts))
    record = json.loads(record_text(directory, path))
    assert list(record) in (TUSD_KEYS, [*TUSD_KEYS, "TusdPy"])
    assert (record["IsFinal"], record["IsPartial"], record["Size"]) == (True, False, 11)
    assert record["PartialUploads"] == [name_of(part) for part in parts]
    until(lambda: (directory / name_of(path)).read_bytes() == b"hello world")


def test_declared_length_is_written(client: TusClient, directory: Path) -> None:
    path = client.create()
    assert client.patch(path, 0, b"hello ", upload_length=11).status == 204
    record = json.loads(record_text(directory, path))
    assert (record["Size"], record["SizeIsDeferred"]) == (11, False)


def test_strings_as_go_writes_them(client: TusClient, directory: Path) -> None:
    value = '<a href="x">&</a>\\\u2028\u2029\0ü\U0001f389\n\t\x7f'
    path = client.create(11, upload_metadata=f"k {b64(value)}")
    escaped = r"\u003ca href=\"x\"\u003e\u0026\u003c/a\u003e\\\u2028\u2029\u0000ü" + "\U0001f389" + r"\n\t" + "\x7f"
    assert f'"MetaData":{{"k":"{escaped}"}}' in record_text(directory, path)
    assert client.head(path).headers["upload-metadata"] == f"k {b64(value)}"


def test_file_is_as_long_as_the_offset(client: TusClient, directory: Path) -> None:
    path = client.create(11)
    for offset, body in ((0, b"he"), (2, b"llo "), (6, b""), (6, b"world")):
        assert client.patch(path, offset, body).status == 204
        assert (directory / name_of(path)).stat().st_size == client.offset(path) == offset + len(body)


def test_relative_upload_dir_is_written_absolute(start_server: StartServer, tmp_path: Path) -> None:
    client = start_server(upload_dir=Path(os.path.relpath(tmp_path / "data"))).client()
    path = client.create(11)
    storage = json.loads(record_text(tmp_path / "data", path))["Storage"]
    place = str(tmp_path / "data" / name_of(path))
    assert storage == {"InfoPath": f"{place}.info", "Path": place, "Type": "filestore"}
