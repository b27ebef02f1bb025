"""Downloads, rows G01 to G12, entity tags and conditional requests."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import OFFSET_STREAM, Answer, TusClient, b64

HELLO = b"hello world"
YESTERDAY = time.time() - 86_400
LARGE = 200 << 20
INLINE = [
    "text/plain",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/bmp",
    "image/webp",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/webm",
    "audio/ogg",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "application/ogg",
]
ATTACHED = [
    "text/html",
    "image/svg+xml",
    "application/pdf",
    "application/zip",
    "text/xml",
    "application/octet-stream",
    "video/x-foo",
]
NOT_A_TYPE = [
    "bad type",
    "text/plain; x",
    "text/plain; a=b; a=c",
    "plain",
    "text/",
    "/plain",
    "text/plain\r\nX-Evil: 1",
    "text/pläin",
]


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TusClient]:
    with ServerProcess(tmp_path_factory.mktemp("without"), "-disable-download") as server:
        yield server.client()


@pytest.fixture(scope="module")
def large(shared_server: ServerProcess) -> Iterator[str]:
    """The path of a finished upload of 200 MB, mostly a hole, put into the directory as tusd would have left it."""
    name = "1a59e000000000000000000000000000"
    data = shared_server.upload_dir / name
    with data.open("wb") as file:
        file.truncate(LARGE)
        for place in (0, 77_777_777, LARGE - 7):
            file.seek(place)
            file.write(b"landing")
    info = {
        "ID": name,
        "Size": LARGE,
        "SizeIsDeferred": False,
        "Offset": 0,
        "MetaData": {},
        "IsPartial": False,
        "IsFinal": False,
    }
    storage = {"InfoPath": f"{data}.info", "Path": str(data), "Type": "filestore"}
    Path(f"{data}.info").write_text(json.dumps({**info, "PartialUploads": None, "Storage": storage}, separators=(",", ":")))
    yield f"/files/{name}"
    data.unlink()
    Path(f"{data}.info").unlink()


@pytest.fixture
def hello(tus: TusClient, shared_server: ServerProcess) -> str:
    """A finished upload that was last changed a day ago."""
    path = tus.create(len(HELLO), HELLO)
    os.utime(data_of(shared_server, path), (YESTERDAY, YESTERDAY))
    return path


def data_of(server: ServerProcess, path: str) -> Path:
    return server.upload_dir / path.rsplit("/", 1)[1]


def metadata(**pairs: str | bytes) -> str:
    return ",".join(f"{key} {b64(value)}" for key, value in pairs.items())


def get_described(tus: TusClient, **pairs: str | bytes) -> Answer:
    answer = tus.get(tus.create(len(HELLO), HELLO, upload_metadata=metadata(**pairs)))
    assert (answer.status, answer.body) == (200, HELLO)
    assert answer.headers["x-content-type-options"] == "nosniff"
    return answer


def test_g01_g07_get(tus: TusClient, hello: str) -> None:
    answer = tus.get(hello)
    assert (answer.status, answer.body) == (200, HELLO)
    assert answer.headers["content-length"] == "11"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["last-modified"] == formatdate(YESTERDAY, usegmt=True)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["tus-resumable"] == "1.0.0"


def test_g01_final_upload(tus: TusClient) -> None:
    parts = [tus.create(len(data), data, upload_concat="partial") for data in (b"hello ", b"world")]
    answer = tus.get(tus.create(upload_concat="final;" + " ".join(parts)), range="bytes=4-7")
    assert (answer.status, answer.body) == (206, b"o wo")


def test_g01_unknown_upload(tus: TusClient) -> None:
    answer = tus.get("/files/" + "0" * 32)
    assert answer.status == 404
    assert answer.text == "ERR_UPLOAD_NOT_FOUND: upload not found\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("bytes=0-4", 0, 4),
        ("bytes=0-0", 0, 0),
        ("bytes=10-10", 10, 10),
        ("bytes=6-", 6, 10),
        ("bytes=0-", 0, 10),
        ("bytes=6-10", 6, 10),
        ("bytes=6-99", 6, 10),
        ("bytes=-3", 8, 10),
        ("bytes=-11", 0, 10),
        ("bytes=-99", 0, 10),
        ("Bytes=0-4", 0, 4),
    ],
)
def test_g02_range(tus: TusClient, hello: str, value: str, first: int, last: int) -> None:
    answer = tus.get(hello, range=value)
    assert (answer.status, answer.body) == (206, HELLO[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/11"
    assert answer.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize("value", ["bytes=0-1,3-4", "bytes=0-1, -3", "bytes=0-1,3-4,6-7"])
def test_g02_several_ranges_are_answered_in_full(tus: TusClient, hello: str, value: str) -> None:
    answer = tus.get(hello, range=value)
    assert (answer.status, answer.body) == (200, HELLO)
    assert "content-range" not in answer.headers


@pytest.mark.parametrize(
    "value", ["bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=4", "bytes=--3", "0-4", "items=0-4", "bytes=+1-4"]
)
def test_g02_malformed_range_is_ignored(tus: TusClient, hello: str, value: str) -> None:
    answer = tus.get(hello, range=value)
    assert (answer.status, answer.body) == (200, HELLO)
    assert "content-range" not in answer.headers


def test_g02_range_beyond_any_number(tus: TusClient, hello: str) -> None:
    answer = tus.get(hello, range="bytes=0-" + "9" * 5000)
    assert (answer.status in (200, 206), answer.body) == (True, HELLO)


@pytest.mark.parametrize("value", ["bytes=11-", "bytes=11-20", "bytes=99-", "bytes=-0"])
def test_g03_unsatisfiable(tus: TusClient, hello: str, value: str) -> None:
    answer = tus.get(hello, range=value)
    assert answer.status == 416
    assert answer.headers["content-range"] == "bytes */11"
    assert HELLO not in answer.body


@pytest.mark.parametrize(("shift", "status"), [(0, 304), (60, 304), (-60, 200)], ids=["same", "later", "earlier"])
def test_g04_if_modified_since(tus: TusClient, hello: str, shift: int, status: int) -> None:
    answer = tus.get(hello, if_modified_since=formatdate(YESTERDAY + shift, usegmt=True))
    assert (answer.status, answer.body) == (status, HELLO if status == 200 else b"")


def test_g04_if_modified_since_garbage(tus: TusClient, hello: str) -> None:
    assert tus.get(hello, if_modified_since="yesterday").status == 200


@pytest.mark.parametrize(("shift", "status"), [(0, 200), (60, 200), (-60, 412)], ids=["same", "later", "earlier"])
def test_g04_if_unmodified_since(tus: TusClient, hello: str, shift: int, status: int) -> None:
    assert tus.get(hello, if_unmodified_since=formatdate(YESTERDAY + shift, usegmt=True)).status == status


@pytest.mark.parametrize(("shift", "status"), [(0, 206), (-60, 200), (60, 200)], ids=["same", "earlier", "later"])
def test_g04_if_range_with_the_date(tus: TusClient, hello: str, shift: int, status: int) -> None:
    answer = tus.get(hello, range="bytes=0-4", if_range=formatdate(YESTERDAY + shift, usegmt=True))
    assert (answer.status, answer.body) == (status, HELLO[:5] if status == 206 else HELLO)


def test_etag_is_strong_and_stable(tus: TusClient, hello: str) -> None:
    tags = [tus.get(hello).headers["etag"], tus.get(hello, range="bytes=0-4").headers["etag"]]
    assert tags[0] == tags[1]
    assert re.fullmatch(r'"[\x21\x23-\x7e]+"', tags[0])


def test_etag_survives_a_restart(start_server: StartServer) -> None:
    first = start_server()
    path = first.client().create(len(HELLO), HELLO)
    tag = first.client().get(path).headers["etag"]
    assert first.terminate() == 0
    assert start_server().client().get(path).headers["etag"] == tag


def test_etag_differs_between_uploads(tus: TusClient) -> None:
    first, second = (tus.get(tus.create(len(data), data)).headers["etag"] for data in (HELLO, b"jello world"))
    assert first != second


@pytest.mark.parametrize("way", ["in-place", "replaced"])
def test_etag_never_lies(tus: TusClient, shared_server: ServerProcess, hello: str, way: str) -> None:
    """Other bytes of the same number; a file that takes the old one's place even has its modification time."""
    data = data_of(shared_server, hello)
    tag = tus.get(hello).headers["etag"]
    if way == "in-place":
        data.write_bytes(b"jello world")
    else:
        replacement = shared_server.upload_dir.parent / "replacement"
        replacement.write_bytes(b"jello world")
        os.utime(replacement, (YESTERDAY, YESTERDAY))
        replacement.replace(data)
    answer = tus.get(hello, if_none_match=tag, range="bytes=0-4", if_range=tag)
    assert (answer.status, answer.body) == (200, b"jello world")
    assert answer.headers["etag"] != tag


@pytest.mark.parametrize("form", ["{0}", "W/{0}", '"x", {0}', "*", '"x",{0} , "y"'])
def test_if_none_match_matches(tus: TusClient, hello: str, form: str) -> None:
    tag = tus.get(hello).headers["etag"]
    answer = tus.get(hello, if_none_match=form.format(tag))
    assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)


def test_if_none_match_does_not_match(tus: TusClient, hello: str) -> None:
    assert tus.get(hello, if_none_match='"x"').status == 200


def test_if_none_match_wins_over_if_modified_since(tus: TusClient, hello: str) -> None:
    answer = tus.get(hello, if_none_match='"x"', if_modified_since=formatdate(YESTERDAY, usegmt=True))
    assert (answer.status, answer.body) == (200, HELLO)


@pytest.mark.parametrize(
    ("form", "status"),
    [("{0}", 200), ('"x", {0}', 200), ("*", 200), ('"x"', 412), ("W/{0}", 412)],
    ids=["tag", "list", "any", "other", "weak"],
)
def test_if_match(tus: TusClient, hello: str, form: str, status: int) -> None:
    answer = tus.get(hello, if_match=form.format(tus.get(hello).headers["etag"]))
    assert answer.status == status
    assert (answer.body == HELLO) == (status == 200)


@pytest.mark.parametrize(("form", "status"), [("{0}", 206), ('"x"', 200), ("W/{0}", 200)], ids=["tag", "other", "weak"])
def test_if_range_with_the_etag(tus: TusClient, hello: str, form: str, status: int) -> None:
    answer = tus.get(hello, range="bytes=0-4", if_range=form.format(tus.get(hello).headers["etag"]))
    assert (answer.status, answer.body) == (status, HELLO[:5] if status == 206 else HELLO)


def test_g05_unfinished_upload(tus: TusClient) -> None:
    answer = tus.get(tus.create(11, HELLO[:5]))
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


def test_g05_unfinished_upload_is_never_unmodified(tus: TusClient) -> None:
    """More bytes may have come within the second that the date tells."""
    path = tus.create(11, HELLO[:5])
    date = tus.get(path).headers.get("last-modified", formatdate(usegmt=True))
    answer = tus.get(path, if_modified_since=date)
    assert (answer.status, answer.body) == (200, b"hello")


def test_g05_unfinished_final(tus: TusClient) -> None:
    part = tus.create(11, HELLO[:5], upload_concat="partial")
    answer = tus.get(tus.create(upload_concat=f"final;{part}"))
    assert answer.status == 423
    assert answer.text.startswith("ERR_UPLOAD_NOT_READY: ")


def test_g05_running_patch_is_not_disturbed(tus: TusClient, shared_server: ServerProcess) -> None:
    path = tus.create(11)
    with tus.connect() as patch:
        patch.send_head("PATCH", path, {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Content-Length": 11})
        patch.send(HELLO[:5])
        until(lambda: data_of(shared_server, path).stat().st_size == 5)
        answers = [tus.get(path), tus.get(path, range="bytes=1-2")]
        patch.send(HELLO[5:])
        patched = patch.answer("PATCH")
    assert [answer.body for answer in answers] == [b"hello", b"el"]
    assert (patched.status, patched.offset) == (204, 11)
    assert tus.get(path).body == HELLO


def test_g06_empty_upload(tus: TusClient) -> None:
    answer = tus.get(tus.create(0))
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize("filetype", [*INLINE, "Text/PLAIN", "text/plain; charset=utf-8", "video/mp4;codecs=avc1"])
def test_g08_shown_inline(tus: TusClient, filetype: str) -> None:
    answer = get_described(tus, filetype=filetype)
    assert (answer.headers["content-type"], answer.headers["content-disposition"]) == (filetype, "inline")


@pytest.mark.parametrize("filetype", ATTACHED)
def test_g09_other_types_are_attachments(tus: TusClient, filetype: str) -> None:
    answer = get_described(tus, filetype=filetype)
    assert (answer.headers["content-type"], answer.headers["content-disposition"]) == (filetype, "attachment")


@pytest.mark.parametrize("filetype", NOT_A_TYPE)
def test_g10_not_a_type(tus: TusClient, filetype: str) -> None:
    answer = get_described(tus, filetype=filetype)
    assert (answer.headers["content-type"], answer.headers["content-disposition"]) == ("application/octet-stream", "attachment")
    assert "x-evil" not in answer.headers


def test_g10_no_type(tus: TusClient) -> None:
    answer = get_described(tus, other="x")
    assert (answer.headers["content-type"], answer.headers["content-disposition"]) == ("application/octet-stream", "attachment")


@pytest.mark.parametrize(("filetype", "kind"), [("text/plain", "inline"), ("text/html", "attachment")])
@pytest.mark.parametrize("name", ["a.txt", "with blank.txt", "it's;a,b=c.txt", "100%.txt"])
def test_g11_filename(tus: TusClient, name: str, filetype: str, kind: str) -> None:
    answer = get_described(tus, filetype=filetype, filename=name)
    assert answer.headers["content-disposition"] == f'{kind};filename="{name}"'


@pytest.mark.parametrize(("name", "quoted"), [('a"b.txt', r"a\"b.txt"), ("a\\b.txt", r"a\\b.txt")], ids=["quote", "backslash"])
def test_g11_filename_is_quoted(tus: TusClient, name: str, quoted: str) -> None:
    answer = get_described(tus, filename=name)
    assert answer.headers["content-disposition"].startswith(f'attachment;filename="{quoted}"')


@pytest.mark.parametrize("name", ["übung.txt", "日本語.txt", "🎉 party.png", 'ü"b.txt', "naïve\\é.txt", "é'(1)%.txt"])
def test_g11_non_ascii_filename(tus: TusClient, name: str) -> None:
    value = get_described(tus, filename=name).headers["content-disposition"]
    found = re.fullmatch(
        r"""attachment;\s*filename="(?:[^"\\]|\\.)*";\s*filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]+)""", value
    )
    assert found, value
    assert unquote(found[1], errors="strict") == name


@pytest.mark.parametrize(
    "name",
    [
        b"a\r\nX-Evil: 1",
        b"a\nb",
        b"a\rb",
        b"a\0b",
        b'"; filename="evil',
        b"\xff\xfe",
        b"a\x1bb",
        b"a\xc2\x85b",
        b"",
        b"\xe2\x80\xa8",
    ],
)
def test_g11_filename_never_breaks_the_header(tus: TusClient, name: bytes) -> None:
    answer = get_described(tus, filename=name)
    values = [value for header, value in answer.all_headers if header == "content-disposition"]
    assert len(values) == 1
    assert "x-evil" not in answer.headers
    assert not re.search(r"[\x00-\x1f\x7f]", values[0])
    assert re.fullmatch(r"""attachment(;\s*filename="(?:[^"\\]|\\.)*")?(;\s*filename\*=UTF-8''[^\s;"]*)?""", values[0]), values[
        0
    ]


@pytest.mark.parametrize(("range_", "status"), [(None, 200), ("bytes=0-1", 206), ("bytes=99-", 416)])
def test_g12_nosniff(tus: TusClient, hello: str, range_: str | None, status: int) -> None:
    answer = tus.get(hello, **({"range": range_} if range_ else {}))
    assert (answer.status, answer.headers["x-content-type-options"]) == (status, "nosniff")


def test_large_download_arrives_whole(tus: TusClient, large: str) -> None:
    expected = hashlib.blake2b()
    position = 0
    for place in (0, 77_777_777, LARGE - 7):
        expected.update(bytes(place - position) + b"landing")
        position = place + 7
    received, count = hashlib.blake2b(), 0
    buffer = bytearray(1 << 20)
    with tus.connect() as connection:
        connection.send_head("GET", large, {"Connection": "close"}, tus=False)
        head = connection._until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert f"content-length: {LARGE}".encode() in head.lower()
        received.update(connection.buffer)
        count += len(connection.buffer)
        while size := connection.sock.recv_into(buffer):
            received.update(memoryview(buffer)[:size])
            count += size
    assert count == LARGE
    assert received.digest() == expected.digest()


def test_large_range(tus: TusClient, large: str) -> None:
    answer = tus.get(large, range="bytes=77777770-77777790")
    assert (answer.status, answer.body) == (206, bytes(7) + b"landing" + bytes(7))
    assert answer.headers["content-range"] == f"bytes 77777770-77777790/{LARGE}"


def test_client_that_goes_away(tus: TusClient, large: str) -> None:
    for _ in range(5):
        with tus.connect() as connection:
            connection.send_head("GET", large, tus=False)
            connection._until(b"\r\n\r\n")
    assert tus.get(large, range="bytes=-7").body == b"landing"
    assert tus.offset(large) == LARGE


def test_downloads_on_one_connection(tus: TusClient, hello: str) -> None:
    with tus.connect() as connection:
        for value, body in (("bytes=0-4", b"hello"), ("bytes=-5", b"world"), ("items=0", HELLO)):
            assert connection.request("GET", hello, {"Range": value}, tus=False).body == body
        assert connection.request("HEAD", hello).offset == 11


def test_disabled(without: TusClient) -> None:
    path = without.create(len(HELLO), HELLO)
    answer = without.get(path)
    assert answer.status == 405
    assert "GET" not in answer.headers["allow"].replace(" ", "").split(",")
    assert without.offset(path) == 11


def test_last_modified_is_when_bytes_last_came(tus: TusClient) -> None:
    before = int(time.time())
    answer = tus.get(tus.create(len(HELLO), HELLO))
    assert before - 1 <= parsedate_to_datetime(answer.headers["last-modified"]).timestamp() <= time.time()
