"""Concatenation and concatenation-unfinished, rows N01 to N26."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import OFFSET_STREAM, Answer, Connection, TusClient, b64
from tests.wire import stored, uploads_on_disk

CHUNK = {"Content-Type": OFFSET_STREAM}


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TusClient]:
    with ServerProcess(tmp_path_factory.mktemp("proxied"), "-behind-proxy") as server:
        yield server.client()


@pytest.fixture(scope="module")
def at_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TusClient]:
    with ServerProcess(tmp_path_factory.mktemp("root"), "-base-path=/") as server:
        yield server.client("/")


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("limited"), "-max-size=10") as server:
        yield server


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("without"), "-disable-concatenation") as server:
        yield server


def partial(client: TusClient, data: bytes) -> str:
    return client.create(len(data), data, upload_concat="partial")


def post_final(client: TusClient, *urls: str, **headers: object) -> Answer:
    pairs = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request("POST", client.base, {"Upload-Concat": "final;" + " ".join(urls), **pairs})


def final(client: TusClient, *urls: str) -> str:
    return client.create(upload_concat="final;" + " ".join(urls))


def is_complete(client: TusClient, path: str, size: int) -> bool:
    head = client.head(path)
    assert head.status == 200
    assert head.offset in (None, size), "a final upload is there as a whole or not at all"
    return head.offset == size


def begin_patch(connection: Connection, path: str, length: int, body: bytes) -> None:
    connection.send_head("PATCH", path, {**CHUNK, "Upload-Offset": 0, "Content-Length": length})
    connection.send(body)


def test_n01_partial(tus: TusClient) -> None:
    path = tus.create(5, upload_concat="partial")
    head = tus.head(path)
    assert (head.headers["upload-concat"], head.offset, head.headers["upload-length"]) == ("partial", 0, "5")
    assert tus.patch(path, 0, b"hello").offset == 5
    assert tus.head(path).headers["upload-concat"] == "partial"


def test_n01_announced(tus: TusClient) -> None:
    extensions = tus.request("OPTIONS", tus.base).headers["tus-extension"].split(",")
    assert "concatenation" in extensions
    assert "concatenation-unfinished" in extensions


def test_n01_plain_upload_has_no_upload_concat(tus: TusClient) -> None:
    assert "upload-concat" not in tus.head(tus.create(5)).headers


def test_n02_n14_final(tus: TusClient) -> None:
    first, second = partial(tus, b"hello "), partial(tus, b"world")
    answer = post_final(tus, second, first)
    assert answer.status == 201
    path = tus.base + answer.headers["location"].rsplit("/", 1)[1]
    head = tus.head(path)
    assert (head.status, head.offset, head.headers["upload-length"]) == (200, 11, "11")
    assert head.headers["upload-concat"] == f"final;{second} {first}"
    assert tus.get(path).body == b"worldhello "


def test_n02_large_partials(tus: TusClient) -> None:
    pieces = [bytes([number]) * 5_000_000 for number in (1, 2, 3)]
    path = final(tus, *(partial(tus, piece) for piece in pieces))
    assert is_complete(tus, path, 15_000_000)
    for number, piece in enumerate(pieces):
        answer = tus.get(path, range=f"bytes={number * 5_000_000}-{number * 5_000_000 + 4_999_999}")
        assert (answer.status, answer.body == piece) == (206, True)


def test_n02_many_partials(tus: TusClient) -> None:
    data = bytes(range(150))
    path = final(tus, *(tus.base + partial(tus, data[i : i + 1]).rsplit("/", 1)[1] for i in range(150)))
    assert tus.get(path).body == data


def test_n02_empty_partials(tus: TusClient) -> None:
    path = final(tus, partial(tus, b""), partial(tus, b""))
    head = tus.head(path)
    assert (head.status, head.offset, head.headers["upload-length"]) == (200, 0, "0")


def test_n03_absolute_urls(tus: TusClient) -> None:
    with tus.connect() as connection:
        host = connection.host
    urls = [f"http://{host}{partial(tus, data)}" for data in (b"hello ", b"world")]
    path = final(tus, *urls)
    assert tus.get(path).body == b"hello world"
    assert tus.head(path).headers["upload-concat"] == "final;" + " ".join(urls)


def test_n03_location_as_given(tus: TusClient) -> None:
    """What the server itself said is where the partial is, put back as it came (J08)."""
    created = tus.request("POST", tus.base, {"Upload-Length": 5, "Upload-Concat": "partial", **CHUNK}, b"hello")
    assert tus.get(final(tus, created.headers["location"])).body == b"hello"


def test_n03_host_of_the_request(tus: TusClient) -> None:
    url = "http://uploads.example" + partial(tus, b"hello")
    assert post_final(tus, url, Host="uploads.example").status == 201
    assert post_final(tus, url, Host="other.example").status in (400, 404)


def test_n03_forwarded_host(proxied: TusClient) -> None:
    path = partial(proxied, b"hello")
    forwarded = {"X-Forwarded-Host": "pub.example", "X-Forwarded-Proto": "https"}
    good = proxied.request("POST", "/files/", {"Upload-Concat": f"final;https://pub.example{path}", **forwarded})
    evil = proxied.request("POST", "/files/", {"Upload-Concat": f"final;https://evil.example{path}", **forwarded})
    assert good.status == 201
    assert evil.status in (400, 404)


def test_n03_forwarded_host_needs_the_flag(tus: TusClient) -> None:
    path = partial(tus, b"hello")
    headers: dict[str, object] = {"Upload-Concat": f"final;http://pub.example{path}", "X-Forwarded-Host": "pub.example"}
    assert tus.request("POST", tus.base, headers).status in (400, 404)


@pytest.mark.parametrize(
    "form",
    ["final; {0} {1}", "final;{0}  {1}", "final;{0}/ {1}/", "final;  {0}   {1}"],
    ids=["blank", "double", "slash", "all"],
)
def test_n04_n15_loose_forms_echoed_as_they_came(tus: TusClient, form: str) -> None:
    value = form.format(partial(tus, b"hello "), partial(tus, b"world"))
    path = tus.create(upload_concat=value)
    assert tus.get(path).body == b"hello world"
    assert tus.head(path).headers["upload-concat"] == value


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/files/{id}",
        "https://evil.example:8443/files/{id}",
        "http://{host}.evil.example/files/{id}",
        "http://evil.example@{host}:1/files/{id}",
        "http://{host}@evil.example/files/{id}",
        "http://evil.example/?x=/files/{id}",
        "//evil.example/files/{id}",
        "http://{host}/other/{id}",
        "http://{host}/other/files/{id}",
        "http://{host}/{id}",
        "/other/{id}",
        "/other/files/{id}",
        "/{id}",
        "/files/../files/{id}",
        "ftp://{host}/files/{id}",
    ],
)
def test_n05_other_origin_or_path(tus: TusClient, shared_server: ServerProcess, url: str) -> None:
    path = partial(tus, b"hello")
    before = uploads_on_disk(shared_server)
    with tus.connect() as connection:
        host = connection.host
    answer = post_final(tus, url.format(id=path.rsplit("/", 1)[1], host=host))
    assert answer.status in (400, 404)
    assert answer.text.startswith(("ERR_INVALID_CONCAT: ", "ERR_UPLOAD_NOT_FOUND: "))
    assert "location" not in answer.headers
    assert uploads_on_disk(shared_server) == before


def test_n06_partial_twice_and_reused(tus: TusClient) -> None:
    first, second = partial(tus, b"ab"), partial(tus, b"cd")
    assert tus.get(final(tus, first, second, first)).body == b"abcdab"
    assert tus.get(final(tus, second, first)).body == b"cdab"


def test_n07_unknown_partial(tus: TusClient, shared_server: ServerProcess) -> None:
    known = partial(tus, b"hello")
    before = uploads_on_disk(shared_server)
    answer = post_final(tus, known, tus.base + "0" * 32)
    assert answer.status == 404
    assert answer.text.startswith("ERR_UPLOAD_NOT_FOUND: ")
    assert uploads_on_disk(shared_server) == before


@pytest.mark.parametrize("kind", ["plain", "final", "unfinished-final"])
def test_n08_not_a_partial(tus: TusClient, shared_server: ServerProcess, kind: str) -> None:
    good = partial(tus, b"hello")
    listed = {
        "plain": lambda: tus.create(5, b"hello"),
        "final": lambda: final(tus, good),
        "unfinished-final": lambda: final(tus, tus.create(5, upload_concat="partial")),
    }[kind]()
    before = uploads_on_disk(shared_server)
    answer = post_final(tus, good, listed)
    assert answer.status == 400
    assert answer.text.startswith("ERR_INVALID_CONCAT: ")
    assert uploads_on_disk(shared_server) == before


@pytest.mark.parametrize(
    "value", ["final", "final;", "partial;", "Partial", "FINAL;{0}", "foo", "final {0}", "final,{0}", "partial;{0}"]
)
def test_n10_malformed(tus: TusClient, shared_server: ServerProcess, value: str) -> None:
    path = partial(tus, b"hello")
    before = uploads_on_disk(shared_server)
    answer = tus.request("POST", tus.base, {"Upload-Length": 5, "Upload-Concat": value.format(path)})
    assert answer.status == 400
    assert answer.text.startswith("ERR_INVALID_CONCAT: ")
    assert uploads_on_disk(shared_server) == before


@pytest.mark.parametrize("length", [5, 4, 6, 0])
def test_n11_length_with_final_is_ignored(tus: TusClient, length: int) -> None:
    answer = post_final(tus, partial(tus, b"hello"), Upload_Length=length)
    assert answer.status == 201
    head = tus.head(tus.base + answer.headers["location"].rsplit("/", 1)[1])
    assert (head.offset, head.headers["upload-length"]) == (5, "5")


@pytest.mark.parametrize("finished", [True, False])
def test_n12_final_with_body(tus: TusClient, shared_server: ServerProcess, finished: bool) -> None:
    path = tus.create(5, b"hello" if finished else b"he", upload_concat="partial")
    before = uploads_on_disk(shared_server)
    answer = tus.request("POST", tus.base, {"Upload-Concat": f"final;{path}", **CHUNK}, b"more")
    assert (answer.status, answer.text) == (403, "ERR_MODIFY_FINAL: modifying a final upload is not allowed\n")
    assert uploads_on_disk(shared_server) == before


@pytest.mark.parametrize("body", [b"", b"more"], ids=["empty", "body"])
@pytest.mark.parametrize("offset", [0, 3, 5, 6])
@pytest.mark.parametrize("finished", [True, False], ids=["N13", "N24-unfinished"])
def test_n13_n24_patch(tus: TusClient, finished: bool, offset: int, body: bytes) -> None:
    part = tus.create(5, b"hello" if finished else b"he", upload_concat="partial")
    path = final(tus, part)
    answer = tus.patch(path, offset, body)
    assert (answer.status, answer.text) == (403, "ERR_MODIFY_FINAL: modifying a final upload is not allowed\n")
    assert tus.head(path).offset == (5 if finished else None)
    assert tus.offset(part) == (5 if finished else 2)


def test_n16_metadata_is_the_final_requests_own(tus: TusClient) -> None:
    parts = [tus.create(5, b"hello", upload_concat="partial", upload_metadata=f"filename {b64('part.bin')},only cGFydA==")]
    parts.append(partial(tus, b"world"))
    bare = tus.head(final(tus, *parts))
    named = tus.head(tus.create(upload_concat="final;" + " ".join(parts), upload_metadata=f"filename {b64('whole.bin')}"))
    assert bare.headers.get("upload-metadata", "") == ""
    assert named.headers["upload-metadata"] == f"filename {b64('whole.bin')}"
    assert bare.offset == named.offset == 10


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
def test_n17_sum_beyond_the_maximum(limited: ServerProcess, finished: bool) -> None:
    client = limited.client()
    parts = [client.create(6, b"hello!" if finished else b"he", upload_concat="partial") for _ in range(2)]
    before = uploads_on_disk(limited)
    answer = post_final(client, *parts)
    assert answer.status == 413
    assert answer.text.startswith("ERR_MAX_SIZE_EXCEEDED: ")
    assert uploads_on_disk(limited) == before


def test_n17_sum_equal_to_the_maximum(limited: ServerProcess) -> None:
    client = limited.client()
    assert client.get(final(client, partial(client, b"hello"), partial(client, b"world"))).body == b"helloworld"


@pytest.mark.parametrize("form", ["/{id}", "http://{host}/{id}"], ids=["relative", "absolute"])
def test_n18_base_path_is_the_root(at_root: TusClient, form: str) -> None:
    with at_root.connect() as connection:
        host = connection.host
    paths = [partial(at_root, data) for data in (b"hello ", b"world")]
    urls = [form.format(id=path.strip("/"), host=host) for path in paths]
    assert at_root.get(final(at_root, *urls)).body == b"hello world"


def test_n18_base_path_is_the_root_other_host(at_root: TusClient) -> None:
    path = partial(at_root, b"hello")
    assert post_final(at_root, f"http://evil.example{path}").status in (400, 404)


def test_n19_running_patch_on_a_partial(tus: TusClient, shared_server: ServerProcess) -> None:
    """It just is not finished yet: the final waits for it, and it is not disturbed."""
    part = tus.create(5, upload_concat="partial")
    with tus.connect() as patch:
        begin_patch(patch, part, 5, b"he")
        until(lambda: (shared_server.upload_dir / part.rsplit("/", 1)[1]).stat().st_size == 2)
        created = post_final(tus, part)
        assert (created.status, created.offset) == (201, None)
        path = tus.base + created.headers["location"].rsplit("/", 1)[1]
        assert tus.head(path).offset is None
        patch.send(b"llo")
        answer = patch.answer("PATCH")
    assert (answer.status, answer.offset) == (204, 5)
    until(lambda: is_complete(tus, path, 5))
    assert tus.get(path).body == b"hello"


def test_n20_deferred_partial(tus: TusClient) -> None:
    known, deferred = partial(tus, b"hello "), tus.create(upload_defer_length=1, upload_concat="partial")
    path = final(tus, known, deferred)
    head = tus.head(path)
    assert (head.status, head.offset, head.headers.get("upload-length")) == (200, None, None)
    assert tus.patch(deferred, 0, b"wor").status == 204
    assert tus.head(path).headers.get("upload-length") is None
    assert tus.patch(deferred, 3, b"", upload_length=5).status == 204
    head = tus.head(path)
    assert (head.offset, head.headers["upload-length"]) == (None, "11")
    assert tus.patch(deferred, 3, b"ld").status == 204
    until(lambda: is_complete(tus, path, 11))
    assert tus.get(path).body == b"hello world"


@pytest.mark.parametrize("value", ["partial", "final;/files/" + "0" * 32])
def test_n21_disabled(without: ServerProcess, value: str) -> None:
    before = uploads_on_disk(without)
    answer = without.client().request("POST", "/files/", {"Upload-Length": 5, "Upload-Concat": value})
    assert answer.status == 400
    assert answer.text.startswith("ERR_CONCATENATION_UNSUPPORTED: ")
    assert uploads_on_disk(without) == before


def test_n21_disabled_is_not_announced(without: ServerProcess) -> None:
    extensions = without.client().request("OPTIONS", "/files/").headers["tus-extension"].split(",")
    assert not {"concatenation", "concatenation-unfinished"} & set(extensions)


def test_n09_n22_final_of_unfinished_partials(tus: TusClient, shared_server: ServerProcess) -> None:
    first, second = tus.create(6, b"hel", upload_concat="partial"), tus.create(5, upload_concat="partial")
    created = post_final(tus, first, second)
    assert (created.status, created.offset) == (201, None)
    path = tus.base + created.headers["location"].rsplit("/", 1)[1]

    def assert_waiting() -> None:
        head = tus.head(path)
        assert (head.status, head.offset, head.headers["upload-length"]) == (200, None, "11")
        assert head.headers["upload-concat"] == f"final;{first} {second}"
        assert head.headers["cache-control"] == "no-store"

    assert_waiting()
    assert tus.patch(second, 0, b"world").offset == 5
    assert_waiting()
    assert tus.patch(first, 3, b"lo ").offset == 6
    until(lambda: stored(shared_server, path) == b"hello world")  # without having been asked for
    assert is_complete(tus, path, 11)
    assert tus.get(path).body == b"hello world"


def test_n22_two_finals_wait_for_one_partial(tus: TusClient) -> None:
    done, open_ = partial(tus, b"ab"), tus.create(2, upload_concat="partial")
    paths = {final(tus, done, open_): b"abcd", final(tus, open_, done, open_): b"cdabcd"}
    assert tus.patch(open_, 0, b"cd").status == 204
    for path, data in paths.items():
        until(lambda path=path, data=data: is_complete(tus, path, len(data)))  # type: ignore[misc]
        assert tus.get(path).body == data


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_n22_survives_a_restart(start_server: StartServer, end: str) -> None:
    first = start_server()
    client = first.client()
    done, open_ = partial(client, b"hello "), client.create(5, upload_concat="partial")
    path = final(client, done, open_)
    value = client.head(path).headers["upload-concat"]
    getattr(first, end)()
    client = start_server().client()
    head = client.head(path)
    assert (head.status, head.offset, head.headers["upload-length"], head.headers["upload-concat"]) == (200, None, "11", value)
    assert client.patch(open_, 0, b"world").status == 204
    until(lambda: is_complete(client, path, 11))
    assert client.get(path).body == b"hello world"


def test_n22_last_bytes_came_just_before_a_crash(start_server: StartServer) -> None:
    """The bytes were there, the final was not put together yet when the server died: done after the restart."""
    first = start_server()
    client = first.client()
    done, open_ = partial(client, b"hello "), client.create(5, b"wor", upload_concat="partial")
    path = final(client, done, open_)
    first.kill()
    with (first.upload_dir / open_.rsplit("/", 1)[1]).open("ab") as data:
        data.write(b"ld")
    client = start_server().client()
    until(lambda: stored(first, path) == b"hello world")  # without having been asked for
    assert is_complete(client, path, 11)
    assert client.get(path).body == b"hello world"


def test_n22_get_of_an_unfinished_final(tus: TusClient) -> None:
    path = final(tus, tus.create(5, b"he", upload_concat="partial"))
    answer = tus.get(path)
    assert answer.status == 423
    assert answer.text.startswith("ERR_UPLOAD_NOT_READY: ")


def test_n22_delete_of_an_unfinished_final(tus: TusClient, shared_server: ServerProcess) -> None:
    part = tus.create(5, b"he", upload_concat="partial")
    path = final(tus, part)
    assert tus.delete(path).status == 204
    assert tus.head(path).status == 404
    assert tus.patch(part, 2, b"llo").offset == 5
    assert tus.get(part).body == b"hello"
    assert not [file for file in uploads_on_disk(shared_server) if file.startswith(path.rsplit("/", 1)[1])]


def test_n23_partial_terminated(tus: TusClient) -> None:
    done, open_ = partial(tus, b"hello "), tus.create(5, upload_concat="partial")
    path = final(tus, done, open_)
    assert tus.delete(open_).status == 204
    assert tus.head(path).status == 410
    answer = tus.get(path)
    assert answer.status == 410
    assert answer.text.startswith("ERR_UPLOAD_FAILED: ")
    assert tus.patch(path, 0, b"x").status == 403
    assert tus.delete(path).status == 204
    assert tus.get(done).body == b"hello "


def test_n23_finished_partial_terminated_while_another_is_missing(tus: TusClient) -> None:
    done, open_ = partial(tus, b"hello "), tus.create(5, upload_concat="partial")
    path = final(tus, done, open_)
    assert tus.delete(done).status == 204
    assert tus.head(path).status == 410
    assert tus.patch(open_, 0, b"world").offset == 5
    assert tus.head(path).status == 410


def test_n26_partials_are_kept(tus: TusClient) -> None:
    first, second = partial(tus, b"hello "), partial(tus, b"world")
    final(tus, first, second)
    assert tus.get(first).body + tus.get(second).body == b"hello world"
    assert [tus.head(path).headers["upload-concat"] for path in (first, second)] == ["partial", "partial"]
