"""The applications in docs/examples: the same under other ASGI servers and mounted in other applications."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.clients import JsClient, assert_stored, make_file
from tests.support.waiting import begin_patch, reset, until, until_continue, until_offset
from tests.support.wire import OFFSET_STREAM, TusClient, checksum, chunked, path_of

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
MIB = 1024 * 1024
LISTENING = re.compile(r"running on http://127\.0\.0\.1:(\d+)", re.IGNORECASE)


def write_examples(folder: Path) -> list[Path]:
    """Copies of the examples."""
    return [Path(shutil.copy(each, folder)) for each in sorted(EXAMPLES.glob("*.py"))]


@dataclass(frozen=True)
class Host:
    """How an application is served, where uploads are in it, and what the server is able to do."""

    name: str
    command: tuple[str, ...]
    base: str = "/files/"
    trailers: bool = False


UVICORN = ("-m", "uvicorn", "--host=127.0.0.1", "--port=0", "--no-access-log")
HTTPTOOLS, H11 = (*UVICORN, "--http=httptools"), (*UVICORN, "--http=h11")
HYPERCORN = ("-m", "hypercorn", "--bind=127.0.0.1:0")

HOSTS = [
    Host("uvicorn-httptools", (*HTTPTOOLS, "alone:app"), base="/", trailers=True),
    Host("uvicorn-h11", (*H11, "alone:app"), base="/"),
    Host("hypercorn", (*HYPERCORN, "alone:app"), base="/"),
    Host("starlette-uvicorn", (*HTTPTOOLS, "starlette_app:app"), trailers=True),
    Host("starlette-hypercorn", (*HYPERCORN, "starlette_app:app")),
    Host("starlette-full-speed", ("full_speed.py",), trailers=True),
    Host("fastapi-uvicorn", (*HTTPTOOLS, "fastapi_app:app"), trailers=True),
    Host("fastapi-h11", (*H11, "fastapi_app:app")),
]


class Hosted:
    """A host that is running, its data in `data`."""

    def __init__(self, host: Host, folder: Path) -> None:
        write_examples(folder)
        full_speed = folder / "full_speed.py"
        full_speed.write_text(full_speed.read_text().replace("port=8000", "port=0"))
        self.host, self.data, self.log_path = host, folder / "data", folder / "log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *host.command],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))), "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.port = int(until(self._listening, what="the host listens")[1])
        except BaseException:
            self.kill()
            raise

    def _listening(self) -> re.Match[str] | None:
        assert self.process.poll() is None, self.log
        return LISTENING.search(self.log)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.host.base}"

    def client(self) -> TusClient:
        return TusClient(("127.0.0.1", self.port), self.host.base)

    def stored(self, path: str) -> bytes:
        return (self.data / path.rsplit("/", 1)[1]).read_bytes()

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


@pytest.fixture(scope="module", params=HOSTS, ids=lambda host: host.name)
def hosted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    hosted = Hosted(request.param, tmp_path_factory.mktemp("hosted"))
    yield hosted
    hosted.kill()


@pytest.fixture
def tus(hosted: Hosted) -> TusClient:
    return hosted.client()


def test_create(hosted: Hosted, tus: TusClient) -> None:
    answer = tus.request("POST", hosted.host.base, {"Upload-Length": 10, "Upload-Metadata": "filename d29ybGQ="})
    assert answer.status == 201 and answer.headers["tus-resumable"] == "1.0.0"
    location = answer.headers["location"]
    assert re.fullmatch(re.escape(hosted.url) + r"[0-9a-f]+", location)
    head = tus.head(path_of(location))
    assert (head.status, head.offset, head.headers["upload-length"]) == (200, 0, "10")
    assert head.headers["upload-metadata"] == "filename d29ybGQ=" and head.headers["cache-control"] == "no-store"


def test_options(hosted: Hosted, tus: TusClient) -> None:
    answer = tus.request("OPTIONS", hosted.host.base, tus=False)
    assert answer.status in (200, 204) and answer.headers["tus-version"] == "1.0.0"
    assert {"creation", "checksum", "termination", "concatenation"} <= set(answer.headers["tus-extension"].split(","))


def test_patch(hosted: Hosted, tus: TusClient) -> None:
    path = tus.create(10)
    assert tus.patch(path, 0, b"hello").offset == 5
    assert tus.patch(path, 3, b"world").status == 409
    assert tus.patch(path, 5, b"world").offset == 10
    assert hosted.stored(path) == b"helloworld"


def test_create_with_upload(hosted: Hosted, tus: TusClient) -> None:
    path = tus.create(10, b"hello")
    assert tus.offset(path) == 5


def test_several_requests_on_one_connection(hosted: Hosted, tus: TusClient) -> None:
    path = tus.create(20)
    with tus.connect() as connection:
        for offset in range(0, 20, 5):
            headers: dict[str, object] = {"Upload-Offset": offset, "Content-Type": OFFSET_STREAM}
            assert connection.request("PATCH", path, headers, b"12345").offset == offset + 5
            assert connection.request("HEAD", path).offset == offset + 5
    assert hosted.stored(path) == b"12345" * 4


def patch_chunked(
    tus: TusClient, path: str, body: bytes, *, at_once: bool = False, **headers: object
) -> tuple[int, int | None]:
    """The status and the offset of the answer. The head is on its own unless all is to go `at_once`, in one segment."""
    pairs: dict[str, object] = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Transfer-Encoding": "chunked"}
    pairs.update({name.replace("_", "-"): value for name, value in headers.items()})
    with tus.connect() as connection:
        if at_once:
            pairs |= {"Host": connection.host, "Tus-Resumable": "1.0.0"}
            lines = "".join(f"{name}: {value}\r\n" for name, value in pairs.items())
            connection.send(f"PATCH {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        else:
            connection.send_head("PATCH", path, {**pairs, "Expect": "100-continue"})
            until_continue(connection)
            connection.send(body)
        answer = connection.answer("PATCH")
        return answer.status, answer.offset


@pytest.mark.parametrize("at_once", [False, True], ids=["head-first", "at-once"])
def test_chunked_patch(hosted: Hosted, tus: TusClient, at_once: bool) -> None:
    path = tus.create(10)
    assert patch_chunked(tus, path, chunked(b"hel", b"loworld"), at_once=at_once) == (204, 10)
    assert hosted.stored(path) == b"helloworld"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_checksum(hosted: Hosted, tus: TusClient, algorithm: str) -> None:
    path = tus.create(10)
    assert tus.patch(path, 0, b"hello", upload_checksum=checksum(algorithm, b"world")).status == 460
    assert tus.offset(path) == 0
    assert tus.patch(path, 0, b"hello", upload_checksum=checksum(algorithm, b"hello")).offset == 5
    assert tus.patch(path, 5, b"world", upload_checksum=checksum(algorithm, b"world")).offset == 10
    assert hosted.stored(path) == b"helloworld"


@pytest.mark.parametrize("at_once", [False, True], ids=["head-first", "at-once"])
def test_checksum_trailer(hosted: Hosted, tus: TusClient, at_once: bool) -> None:
    """Servers that drop trailers make the checksum missing, which is refused: nothing unverified is stored."""
    path = tus.create(5)
    wrong = chunked(b"hel", b"lo", trailers={"Upload-Checksum": checksum("sha1", b"world")})
    right = chunked(b"hel", b"lo", trailers={"Upload-Checksum": checksum("sha1", b"hello")})
    refused = patch_chunked(tus, path, wrong, at_once=at_once, trailer="Upload-Checksum")
    assert refused[0] == (460 if hosted.host.trailers else 400)
    assert tus.offset(path) == 0
    done = patch_chunked(tus, path, right, at_once=at_once, trailer="Upload-Checksum")
    assert done == ((204, 5) if hosted.host.trailers else (400, None))
    assert tus.offset(path) == (5 if hosted.host.trailers else 0)


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_big_patch(hosted: Hosted, tus: TusClient, tmp_path: Path, framing: str) -> None:
    source = make_file(tmp_path / "big.bin", 30 * MIB + 11)
    data = source.read_bytes()
    path = tus.create(len(data))
    if framing == "content-length":
        assert tus.patch(path, 0, data).offset == len(data)
    else:
        pieces = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
        assert patch_chunked(tus, path, chunked(*pieces)) == (204, len(data))
    assert_stored(hosted.data, path, source)


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_disconnect_keeps_data(hosted: Hosted, tus: TusClient, how: str) -> None:
    path = tus.create(10 * MIB)
    with begin_patch(tus, path, 0, 10 * MIB) as connection:
        connection.send(b"\x5a" * (3 * MIB))
        until_offset(tus, path, 3 * MIB)
        if how == "reset":
            reset(connection)
    assert tus.offset(path) == 3 * MIB
    assert tus.patch(path, 3 * MIB, b"\xa5" * (7 * MIB)).offset == 10 * MIB
    assert hosted.stored(path) == b"\x5a" * (3 * MIB) + b"\xa5" * (7 * MIB)


def test_early_refusal_of_a_large_body(tus: TusClient) -> None:
    path = tus.create(10)
    with tus.connect() as connection:
        headers: dict[str, object] = {"Upload-Offset": 5, "Content-Type": OFFSET_STREAM, "Content-Length": 5}
        connection.send_head("PATCH", path, {**headers, "Content-Length": 1 << 40})
        answer = connection.answer("PATCH")
    assert answer.status in (409, 413) and answer.headers["connection"] == "close"
    assert tus.offset(path) == 0


def test_takeover_by_head(hosted: Hosted, tus: TusClient) -> None:
    """Who asks for the offset is about to resume, so a request that is still running lets go and keeps what it has."""
    path = tus.create(10 * MIB)
    with begin_patch(tus, path, 0, 10 * MIB) as stale:
        stale.send(b"\x5a" * (2 * MIB))
        until_offset(tus, path, 2 * MIB)
        assert tus.offset(path) == 2 * MIB
        assert stale.answer("PATCH").status == 400
        assert tus.patch(path, 2 * MIB, b"\xa5" * (8 * MIB)).offset == 10 * MIB
    assert hosted.stored(path) == b"\x5a" * (2 * MIB) + b"\xa5" * (8 * MIB)


def test_download(tus: TusClient) -> None:
    data = bytes(range(256)) * 4096
    path = tus.create(len(data), data)
    whole = tus.get(path)
    assert whole.status == 200 and whole.body == data and whole.headers["content-length"] == str(len(data))
    part = tus.get(path, range="bytes=1000-70000")
    assert part.status == 206 and part.body == data[1000:70001]
    assert part.headers["content-range"] == f"bytes 1000-70000/{len(data)}"
    assert tus.get(path, range=f"bytes={len(data)}-").status == 416


def test_terminate(hosted: Hosted, tus: TusClient) -> None:
    path = tus.create(10, b"hello")
    assert tus.delete(path).status == 204
    assert tus.head(path).status in (404, 410)
    assert not (hosted.data / path.rsplit("/", 1)[1]).exists()


def test_concatenate(hosted: Hosted, tus: TusClient) -> None:
    first, second = tus.create(5, b"hello", upload_concat="partial"), tus.create(5, b"world", upload_concat="partial")
    urls = f"{hosted.url}{first.rsplit('/', 1)[1]} {second}"  # one absolute, one a path
    final = tus.create(upload_concat=f"final;{urls}")
    assert tus.get(final).body == b"helloworld"
    assert tus.head(final).headers["upload-concat"] == f"final;{urls}"


def test_unknown_upload(hosted: Hosted, tus: TusClient) -> None:
    assert tus.head(hosted.host.base + "0" * 32).status == 404
    answer = tus.get(hosted.host.base + "0" * 32)
    assert answer.status == 404 and answer.text.startswith("ERR_UPLOAD_NOT_FOUND")


@pytest.mark.parametrize("options", [{"chunkSize": 2 * MIB}, {"parallelUploads": 3}], ids=str)
def test_tus_js_client(hosted: Hosted, tmp_path: Path, options: dict[str, object]) -> None:
    source = make_file(tmp_path / "source.bin", 5 * MIB + 1)
    with JsClient(source, endpoint=hosted.url, **options) as client:
        url = client.finish()
    assert_stored(hosted.data, url, source)


# What single examples show


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_stops_cleanly_in_mid_upload(tmp_path: Path, host: Host) -> None:
    """SIGTERM while a body is coming in: what has come is kept, the process ends, and no traceback is left behind."""
    hosted = Hosted(host, tmp_path)
    try:
        tus = hosted.client()
        path = tus.create(10 * MIB)
        with begin_patch(tus, path, 0, 10 * MIB) as connection:
            connection.send(b"\x5a" * MIB)
            until_offset(tus, path, MIB)
            hosted.process.terminate()
            connection.sock.shutdown(1)  # stock servers wait for running requests before the lifespan ends
            hosted.process.wait(20)
        assert hosted.stored(path) == b"\x5a" * MIB
        assert "Traceback" not in hosted.log and "was destroyed" not in hosted.log, hosted.log
    finally:
        hosted.kill()


def test_max_size_of_the_starlette_example(tmp_path: Path) -> None:
    hosted = Hosted(Host("starlette", (*HTTPTOOLS, "starlette_app:app")), tmp_path)
    try:
        assert hosted.client().request("OPTIONS", "/files/").headers["tus-max-size"] == str(10 * 1024**3)
        assert hosted.client().request("POST", "/files/", {"Upload-Length": 10 * 1024**3 + 1}).status == 413
    finally:
        hosted.kill()


def test_expiry_of_the_fastapi_example(tmp_path: Path) -> None:
    hosted = Hosted(Host("fastapi", (*HTTPTOOLS, "fastapi_app:app")), tmp_path)
    try:
        answer = hosted.client().request("POST", "/files/", {"Upload-Length": 10})
        assert answer.headers["upload-expires"].endswith(" GMT")
        assert "expiration" in hosted.client().request("OPTIONS", "/files/").headers["tus-extension"].split(",")
    finally:
        hosted.kill()


def test_the_how_to_shows_the_examples_as_they_are() -> None:
    text = (ROOT / "docs" / "how-to" / "embed.md").read_text()
    shown = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert sorted(shown) == sorted(each.read_text() for each in EXAMPLES.glob("*.py"))
    assert all(each.read_text().startswith(f"# {each.name}\n") for each in EXAMPLES.glob("*.py"))


def test_examples_pass_a_strict_type_check(tmp_path: Path) -> None:
    files = [str(path) for path in write_examples(tmp_path) if not path.name.startswith("django_")]  # Django has no types
    assert len(files) == 6
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path / 'cache'}", *files]
    env = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=110, check=False)
    ours = [line for line in done.stdout.splitlines() if any(line.startswith(Path(file).name) for file in files)]
    assert not ours and "error: Cannot find" not in done.stdout, done.stdout + done.stderr
