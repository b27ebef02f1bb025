"""Ids and paths that try to leave the upload directory: nothing outside is read, written, deleted or told about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import ServerProcess
from tests.support.wire import OFFSET_STREAM, Answer, TusClient, path_of

CANARY = b"canary: this must never leave its cage"
NAME = "c0ffee00c0ffee00c0ffee00c0ffee00"
METHODS = ["HEAD", "GET", "PATCH", "DELETE"]
TARGETS = {
    "parent": "../secret",
    "parent-twice": "../../secret",
    "parent-encoded": "%2e%2e/secret",
    "parent-half-encoded": ".%2e/secret",
    "slash-encoded": "..%2fsecret",
    "slash-encoded-upper": "..%2Fsecret",
    "all-encoded": "%2e%2e%2fsecret",
    "encoded-twice": "%252e%252e%252fsecret",
    "backslash": "..\\secret",
    "backslash-encoded": "..%5csecret",
    "inside-and-out": "x/../../secret",
    "inside-and-out-encoded": "x%2f..%2f..%2fsecret",
    "other-directory": "../other/" + NAME,
    "other-directory-encoded": "..%2fother%2f" + NAME,
    "same-directory": "../data/{own}",
    "same-directory-encoded": "..%2fdata%2f{own}",
    "dot": "./{own}",
    "dot-encoded": ".%2f{own}",
    "absolute": "{outside}/secret",
    "absolute-encoded": "%2f{outside_encoded}%2fsecret",
    "absolute-double-slash": "/{outside}/secret",
    "nul": "%00",
    "nul-behind": "{own}%00",
    "nul-before-suffix": "../secret%00.info",
    "newline": "{own}%0a",
    "carriage-return": "{own}%0d%0aX-Evil:%201",
    "only-dots": "..",
    "only-dots-encoded": "%2e%2e",
    "one-dot": ".",
    "one-dot-encoded": "%2e",
    "three-dots": "...",
    "300-characters": "a" * 300,
    "5000-characters": "a" * 5000,
    "5000-encoded": "%61" * 5000,
    "1000-segments": "a/" * 1000 + "b",
    "own-state": ".tusd-py",
    "own-state-below": ".tusd-py/x",
    "own-state-encoded": ".tusd-py%2fx",
    "record": "{own}.info",
    "record-encoded": "{own}%2einfo",
    "record-of-a-record": "{own}.info.info",
    "lock": "{own}.lock",
    "empty-segment": "/{own}",
    "empty-segment-inside": "x//{own}",
    "below-an-upload": "{own}/x",
    "below-an-upload-encoded": "{own}%2fx",
    "unicode": "é\u202e{own}",
    "unicode-encoded": "%c3%a9{own}",
    "invalid-utf-8": "%ff%fe{own}",
    "overlong-dot": "%c0%ae%c0%ae%c0%afsecret",
    "fullwidth-dots": "\uff0e\uff0e/secret",
    "broken-escape": "%zz{own}",
    "half-escape": "{own}%2",
    "blank-encoded": "%20{own}",
    "trailing-dot": "{own}.",
    "stream": "{own}:$DATA",
    "tilde": "~root",
    "wildcard": "*",
}
BODIES = {"PATCH": b"intruder"}


@pytest.fixture(scope="module")
def cage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `data/`, the upload directory, and beside it uploads that are none of the server's."""
    outside = tmp_path_factory.mktemp("cage")
    (outside / "data").mkdir()
    for place in (outside / "secret", outside / "other" / NAME, outside / "other" / "secret", outside / "data2" / "secret"):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(CANARY)
        Path(f"{place}.info").write_text(json.dumps(record_of(place.name, place, 100)))
    return outside


@pytest.fixture(scope="module")
def server(cage: Path) -> Iterator[ServerProcess]:
    with ServerProcess(cage / "data", "-show-greeting=false") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> TusClient:
    return server.client()


def record_of(name: str, data: Path | str, size: int) -> dict[str, object]:
    """What tusd writes for an unfinished upload."""
    flags = {
        "ID": name,
        "Size": size,
        "SizeIsDeferred": False,
        "Offset": 0,
        "MetaData": {},
        "IsPartial": False,
        "IsFinal": False,
    }
    return {**flags, "PartialUploads": None, "Storage": {"InfoPath": f"{data}.info", "Path": str(data), "Type": "filestore"}}


def contents(directory: Path, *, but: Path) -> dict[str, bytes]:
    """All files below a directory with their bytes, except those below `but`."""
    files = (file for file in directory.rglob("*") if file.is_file() and not file.is_relative_to(but))
    return {str(file.relative_to(directory)): file.read_bytes() for file in files}


def everything(cage: Path) -> dict[str, bytes]:
    """All uploads, the server's and the others'."""
    return contents(cage, but=cage / "data" / ".tusd-py")


def send(client: TusClient, method: str, target: str) -> Answer:
    headers: dict[str, object] = {}
    if method == "PATCH":
        headers = {"Content-Type": OFFSET_STREAM, "Upload-Offset": len(CANARY)}
    return client.request(method, target, headers, BODIES.get(method))


def assert_told_nothing(answer: Answer, cage: Path) -> None:
    """No bytes, no length, no path of what is outside."""
    told = answer.body + "".join(f"{name}: {value}\n" for name, value in answer.all_headers).encode()
    assert b"canary" not in told
    assert str(cage).encode() not in told
    assert answer.offset is None
    assert "upload-length" not in answer.headers
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_urls(client: TusClient, cage: Path, method: str, target: str) -> None:
    own = path_of(client.create(100, CANARY[:5])).rsplit("/", 1)[1]
    before = everything(cage)
    outside = str(cage)
    target = target.format(own=own, outside=outside, outside_encoded=outside[1:].replace("/", "%2f"))
    answer = send(client, method, "/files/" + target)
    assert answer.status in (400, 404, 405, 410, 414, 431)
    assert_told_nothing(answer, cage)
    assert everything(cage) == before
    assert client.offset(f"/files/{own}") == 5


@pytest.mark.parametrize("method", METHODS)
def test_own_state_is_not_an_upload(client: TusClient, server: ServerProcess, method: str) -> None:
    """Every file that the server keeps for itself, asked for by its name."""
    client.create(100, CANARY[:5])
    state = server.upload_dir / ".tusd-py"
    for file in sorted(state.rglob("*")):
        name = file.relative_to(server.upload_dir).as_posix()
        for target in (name, name.replace("/", "%2f"), name.removesuffix(".info")):
            assert send(client, method, f"/files/{target}").status in (400, 404, 405)
            assert file.exists()


@pytest.mark.parametrize("form", ["/files/{0}", "http://{host}/files/{0}"], ids=["relative", "absolute"])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_partial_urls(client: TusClient, cage: Path, target: str, form: str) -> None:
    own = client.create(5, CANARY[:5], upload_concat="partial").rsplit("/", 1)[1]
    before = everything(cage)
    outside = str(cage)
    target = target.format(own=own, outside=outside, outside_encoded=outside[1:].replace("/", "%2f"))
    with client.connect() as connection:
        value = "final;" + form.format(target, host=connection.host)
        answer = connection.request("POST", "/files/", {"Upload-Concat": value})
    assert answer.status in (400, 404, 414, 431)
    assert "location" not in answer.headers
    assert_told_nothing(answer, cage)
    assert everything(cage) == before


@pytest.mark.parametrize("method", ["POST", "HEAD", "GET", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "target",
    ["/files/../secret", "/files/%2e%2e/secret", "/../secret", "/%2e%2e/secret", "//secret", "/files/..", "/..%2fsecret"],
)
def test_no_redirect(client: TusClient, cage: Path, method: str, target: str) -> None:
    answer = send(client, method, target)
    assert answer.status in ((200, 400, 404, 405) if method == "OPTIONS" else (400, 404, 405))
    assert_told_nothing(answer, cage)
    assert (cage / "secret").read_bytes() == CANARY


PLACES = {
    "absolute": "{cage}/secret",
    "parent": "../secret",
    "parent-in-absolute": "{cage}/data/../secret",
    "relative-to-nowhere": "data/../../secret",
    "system": "/etc/passwd",
    "device": "/dev/zero",
    "nul": "{cage}/secret\0",
    "directory-itself": "{cage}/data",
    "own-state": "{cage}/data/.tusd-py",
    "sibling-with-the-same-prefix": "{cage}/data2/secret",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("method", METHODS)
def test_record_that_points_outside(client: TusClient, server: ServerProcess, cage: Path, method: str, place: str) -> None:
    name = "deadbeef" * 4
    record = server.upload_dir / f"{name}.info"
    record.write_text(json.dumps(record_of(name, place.format(cage=cage), 100)))
    before = contents(cage, but=cage / "data")
    answer = send(client, method, f"/files/{name}")
    assert answer.status in ((204, 400, 404, 410) if method == "DELETE" else (400, 404, 410))
    assert_told_nothing(answer, cage)
    assert contents(cage, but=cage / "data") == before
    assert (server.upload_dir / ".tusd-py").is_dir()
    record.unlink(missing_ok=True)


OTHER_IDS = {
    "another-upload": "VICTIM",
    "parent": "../secret",
    "absolute": "/etc/passwd",
    "empty": "",
    "dot": ".",
    "record-of-another": "VICTIM.info",
    "overlong": "a" * 5000,
    "nul": "VICTIM\0",
}


@pytest.mark.parametrize("other", OTHER_IDS.values(), ids=OTHER_IDS)
@pytest.mark.parametrize("method", METHODS)
def test_record_with_another_id(client: TusClient, server: ServerProcess, cage: Path, method: str, other: str) -> None:
    """tusd would take the bytes of the id in the record."""
    victim = client.create(100, CANARY[:5]).rsplit("/", 1)[1]
    name = "0badf00d" * 4
    record = server.upload_dir / f"{name}.info"
    record.write_text(json.dumps({"ID": other.replace("VICTIM", victim), "Size": 100}))
    before = contents(cage, but=cage / "data")
    answer = send(client, method, f"/files/{name}")
    assert answer.status in ((204, 400, 404, 410) if method == "DELETE" else (400, 404, 410))
    assert_told_nothing(answer, cage)
    assert contents(cage, but=cage / "data") == before
    assert client.offset(f"/files/{victim}") == 5
    record.unlink(missing_ok=True)


def test_the_server_still_works(client: TusClient) -> None:
    path = client.create(5)
    assert client.patch(path, 0, b"hello").offset == 5
    assert client.get(path).body == b"hello"
