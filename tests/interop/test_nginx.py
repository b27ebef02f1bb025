"""Behind nginx as docs/how-to/nginx.conf sets it up: nothing is buffered, nothing is lost, nothing is rewritten."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamReset

from tests.interop.clients import JsClient, assert_stored, make_file, stored
from tests.interop.proxy import SHIPPED, Answer, Certificate, Nginx, render, running_nginx
from tests.server.test_restart import restart, until_gone
from tests.support.server import ServerProcess
from tests.support.waiting import until, visible_offset
from tests.support.wire import OFFSET_STREAM, TusClient, checksum, chunked, path_of

MIB = 1024 * 1024

versions = pytest.mark.parametrize("version", ["1.1", "2"], ids=["http1", "http2"])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("proxied") / "data", "-behind-proxy") as server:
        yield server


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, server: ServerProcess, certificate: Certificate) -> Iterator[Nginx]:
    with running_nginx(tmp_path_factory.mktemp("nginx") / "home", f"127.0.0.1:{server.port}", certificate) as nginx:
        yield nginx


def create(nginx: Nginx, version: str, length: int, **headers: object) -> str:
    pairs = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = nginx.request(version, "POST", nginx.url, {"Upload-Length": length, **pairs})
    assert answer.status == 201, answer
    return answer.headers["location"]


def patch(nginx: Nginx, version: str, url: str, offset: int, body: bytes, **headers: object) -> Answer:
    pairs = {name.replace("_", "-"): value for name, value in headers.items()}
    return nginx.request(version, "PATCH", url, {"Upload-Offset": offset, **pairs}, body)


def offset_of(nginx: Nginx, version: str, url: str) -> int:
    answer = nginx.request(version, "HEAD", url)
    assert answer.status == 200, answer
    return int(answer.headers["upload-offset"])


# Ordinary traffic


@versions
def test_upload_and_download(nginx: Nginx, server: ServerProcess, tmp_path: Path, version: str) -> None:
    source = make_file(tmp_path / "source.bin", 3 * MIB + 1)
    data = source.read_bytes()
    url = create(nginx, version, len(data))
    first = patch(nginx, version, url, 0, data[:MIB])
    assert (first.version, first.status, first.headers["upload-offset"]) == (version, 204, str(MIB))
    assert patch(nginx, version, url, MIB, data[MIB:]).status == 204
    assert_stored(server.upload_dir, url, source)
    whole = nginx.request(version, "GET", url)
    assert whole.status == 200 and whole.body == data and whole.headers["content-length"] == str(len(data))
    for given, expected in (("0-9", data[:10]), (f"{MIB}-{2 * MIB}", data[MIB : 2 * MIB + 1]), ("-5", data[-5:])):
        ranged = nginx.request(version, "GET", url, {"Range": f"bytes={given}"})
        assert ranged.status == 206 and ranged.body == expected
    assert nginx.request(version, "GET", url, {"Range": f"bytes={len(data)}-"}).status == 416
    assert nginx.request(version, "DELETE", url).status == 204
    assert nginx.request(version, "HEAD", url).status in (404, 410)


@versions
def test_location_is_what_the_client_can_reach(nginx: Nginx, version: str) -> None:
    for base in (f"https://localhost:{nginx.port}", f"https://127.0.0.1:{nginx.port}"):
        for path in ("/files/", "/files"):
            answer = nginx.request(version, "POST", base + path, {"Upload-Length": 1})
            assert answer.status == 201
            assert re.fullmatch(re.escape(base) + r"/files/[0-9a-f]+", answer.headers["location"])
            assert offset_of(nginx, version, answer.headers["location"]) == 0


@versions
def test_clients_cannot_forge_location(nginx: Nginx, version: str) -> None:
    forged = {"Forwarded": "host=evil.example;proto=http", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
    answer = nginx.request(version, "POST", nginx.url, {"Upload-Length": 1, **forged})
    assert answer.headers["location"].startswith(nginx.url)


def test_plain_http_is_sent_to_https_with_its_method(nginx: Nginx) -> None:
    answer = nginx.request("1.1", "POST", f"http://localhost:{nginx.plain_port}/files/", {"Upload-Length": 1})
    assert answer.status == 308 and answer.headers["location"] == "https://localhost/files/"


@versions
def test_refusals_come_through_with_their_bodies(nginx: Nginx, version: str) -> None:
    url = create(nginx, version, 10)
    wrong_offset = patch(nginx, version, url, 3, b"12345")
    assert wrong_offset.status == 409 and wrong_offset.body.startswith(b"ERR_MISMATCHED_OFFSET")
    too_long = patch(nginx, version, url, 0, b"12345678901")
    assert too_long.status == 413 and too_long.body.startswith(b"ERR_UPLOAD_SIZE_EXCEEDED")
    mismatch = patch(nginx, version, url, 0, b"12345", Upload_Checksum=checksum("sha1", b"54321"))
    assert mismatch.status == 460 and mismatch.body.startswith(b"ERR_")
    assert patch(nginx, version, url, 0, b"12345", Upload_Checksum=checksum("sha1", b"12345")).status == 204
    partial = create(nginx, version, 10, Upload_Concat="partial")
    final = nginx.request(version, "POST", nginx.url, {"Upload-Concat": f"final;{partial}"})
    assert final.status == 201
    locked = nginx.request(version, "GET", final.headers["location"])
    assert locked.status == 423 and locked.body.startswith(b"ERR_")
    missing = nginx.request(version, "GET", nginx.url + "0" * 32)
    assert missing.status == 404 and missing.body.startswith(b"ERR_UPLOAD_NOT_FOUND")
    assert missing.headers["tus-resumable"] == "1.0.0"


@versions
def test_long_upload_concat(nginx: Nginx, version: str) -> None:
    partial = create(nginx, version, 1, Upload_Concat="partial")
    assert patch(nginx, version, partial, 0, b"x").status == 204
    urls = " ".join([partial] * 400)
    assert len(urls) > 20_000
    final = nginx.request(version, "POST", nginx.url, {"Upload-Concat": f"final;{urls}"})
    assert final.status == 201
    assert nginx.request(version, "GET", final.headers["location"]).body == b"x" * 400


# Bodies are passed on as they arrive


class Sender:
    """curl sending a PATCH whose body it reads from a pipe, at no more than 16 MB/s; `send` returns when curl has taken all."""

    def __init__(self, nginx: Nginx, version: str, url: str, *options: str) -> None:
        command = nginx.command(
            version,
            "PATCH",
            url,
            {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Expect": ""},
            "--limit-rate",
            "16M",
            "--upload-file",
            "-",
            *options,
        )
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def send(self, data: bytes) -> None:
        pipe = self.process.stdin
        assert pipe is not None
        pipe.write(data)
        pipe.flush()

        def left_in_pipe() -> int:
            return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0])

        until(lambda: left_in_pipe() == 0, what="curl has read everything")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        assert self.process.stdin is not None
        self.process.stdin.close()


@versions
def test_client_killed_in_mid_patch_loses_next_to_nothing(nginx: Nginx, server: ServerProcess, version: str) -> None:
    length, sent = 64 * MIB, 12 * MIB
    url = create(nginx, version, length)
    sender = Sender(nginx, version, url)
    sender.send(b"\x5a" * sent)
    sender.kill()
    # A second is what a client waits before it asks; 95 % leaves curl a buffer of its own.
    until(lambda: offset_of(nginx, version, url) >= 0.95 * sent, timeout=1.0, what="what was sent is there")
    offset = offset_of(nginx, version, url)
    assert offset <= sent
    assert patch(nginx, version, url, offset, b"\xa5" * (length - offset)).status == 204
    assert stored(server.upload_dir, url).read_bytes() == b"\x5a" * offset + b"\xa5" * (length - offset)


@versions
def test_client_with_a_known_length_killed_in_mid_patch(nginx: Nginx, version: str) -> None:
    sent = 12 * MIB
    url = create(nginx, version, 64 * MIB)
    sender = Sender(nginx, version, url, "--header", "Transfer-Encoding:", "--header", f"Content-Length: {64 * MIB}")
    sender.send(b"\x5a" * sent)
    sender.kill()
    until(lambda: offset_of(nginx, version, url) >= 0.95 * sent, timeout=1.0, what="what was sent is there")


@versions
def test_nothing_is_buffered(nginx: Nginx, server: ServerProcess, version: str) -> None:
    """While the client is still sending, the server has what was sent and nginx has no file of it."""
    url = create(nginx, version, 64 * MIB)
    sender = Sender(nginx, version, url)
    try:
        for part in range(1, 4):
            sender.send(b"\x5a" * (4 * MIB))
            reached = 0.95 * part * 4 * MIB
            until(lambda reached=reached: (visible_offset(server.client(), path_of(url)) or 0) >= reached)  # type: ignore[misc]
            assert nginx.buffered_files() == []
    finally:
        sender.kill()


def reset_in_mid_body(nginx: Nginx, url: str, sent: int) -> None:
    """An HTTP/1.1 client that is cut off by RST; everything it sent has been taken by nginx's kernel before."""
    context = ssl.create_default_context(cafile=str(nginx.certificate.certificate))
    raw = socket.create_connection(("127.0.0.1", nginx.port), 15)
    with context.wrap_socket(raw, server_hostname="localhost") as tls:
        lines = [
            f"PATCH {path_of(url)} HTTP/1.1",
            f"Host: localhost:{nginx.port}",
            "Tus-Resumable: 1.0.0",
            "Upload-Offset: 0",
            f"Content-Type: {OFFSET_STREAM}",
            f"Content-Length: {100 * MIB}",
        ]
        tls.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        tls.sendall(b"\x5a" * sent)
        until(lambda: struct.unpack("i", fcntl.ioctl(tls, termios.TIOCOUTQ, b"\0" * 4))[0] == 0, what="acknowledged")
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_trailers_do_not_pass_and_nothing_unverified_is_stored(nginx: Nginx) -> None:
    url = create(nginx, "1.1", 5)
    head = {"Upload-Offset": 0, "Content-Type": OFFSET_STREAM, "Transfer-Encoding": "chunked", "Trailer": "Upload-Checksum"}
    with TusClient(("127.0.0.1", nginx.port)).connect() as connection:
        context = ssl.create_default_context(cafile=str(nginx.certificate.certificate))
        connection.sock = context.wrap_socket(connection.sock, server_hostname="localhost")
        connection.send_head("PATCH", path_of(url), head)
        connection.send(chunked(b"hello", trailers={"Upload-Checksum": checksum("sha1", b"hello")}))
        assert connection.answer("PATCH").status == 400
    assert offset_of(nginx, "1.1", url) == 0


def test_client_reset_in_mid_patch(nginx: Nginx) -> None:
    url = create(nginx, "1.1", 100 * MIB)
    reset_in_mid_body(nginx, url, 12 * MIB)
    until(lambda: offset_of(nginx, "1.1", url) >= 0.5 * 12 * MIB, timeout=1.0, what="what was sent is there")


@versions
def test_early_refusal_reaches_a_client_that_is_still_sending(nginx: Nginx, version: str) -> None:
    url = create(nginx, version, 200 * MIB)
    body = bytes(100 * MIB)
    answer = patch(nginx, version, url, 5, body)
    assert (answer.status, answer.body.split(b":")[0]) == (409, b"ERR_MISMATCHED_OFFSET"), nginx.errors[-2000:]
    answer = nginx.request(version, "POST", nginx.url, {"Upload-Length": -1}, body)
    assert (answer.status, answer.body.split(b":")[0]) == (400, b"ERR_INVALID_UPLOAD_LENGTH"), nginx.errors[-2000:]
    assert nginx.buffered_files() == []


def test_an_early_refusal_over_http2_is_whole_before_the_stream_is_reset(nginx: Nginx) -> None:
    """The whole answer, its end, then RST_STREAM with NO_ERROR: "stop sending" as RFC 9113, 8.1, has it."""
    url = create(nginx, "2", 200 * MIB)
    context = ssl.create_default_context(cafile=str(nginx.certificate.certificate))
    context.set_alpn_protocols(["h2"])
    http = H2Connection(H2Configuration(client_side=True))
    http.initiate_connection()
    fields = {"tus-resumable": "1.0.0", "upload-offset": "5", "content-type": OFFSET_STREAM, "content-length": str(100 * MIB)}
    pseudo = {":method": "PATCH", ":scheme": "https", ":authority": f"localhost:{nginx.port}", ":path": path_of(url)}
    http.send_headers(1, list((pseudo | fields).items()))
    http.send_data(1, bytes(16384))
    names: list[str] = []
    body = b""
    with context.wrap_socket(socket.create_connection(("127.0.0.1", nginx.port), 15), server_hostname="localhost") as tls:
        while "StreamReset" not in names:
            tls.sendall(http.data_to_send())
            data = tls.recv(1 << 16)
            assert data, f"closed after {names}"
            for event in http.receive_data(data):
                if isinstance(event, ResponseReceived):
                    assert dict(event.headers or ())[b":status"] == b"409"
                elif isinstance(event, DataReceived):
                    body += event.data or b""
                elif isinstance(event, StreamReset):
                    assert event.error_code == ErrorCodes.NO_ERROR
                names.append(type(event).__name__)
    assert body.startswith(b"ERR_MISMATCHED_OFFSET")
    order = [name for name in names if name in ("ResponseReceived", "StreamEnded", "StreamReset")]
    assert order == ["ResponseReceived", "StreamEnded", "StreamReset"]


@versions
@pytest.mark.parametrize(
    ("flag", "status", "code"),
    [("-max-size=1048576", 413, b"ERR_MAX_SIZE_EXCEEDED"), ("-min-free-space=8000TiB", 507, b"ERR_INSUFFICIENT_STORAGE")],
)
def test_uploads_that_do_not_fit_are_refused_before_they_are_sent(
    tmp_path: Path, certificate: Certificate, version: str, flag: str, status: int, code: bytes
) -> None:
    with (
        ServerProcess(tmp_path / "data", "-behind-proxy", flag) as server,
        running_nginx(tmp_path / "nginx", f"127.0.0.1:{server.port}", certificate) as nginx,
    ):
        answer = nginx.request(version, "POST", nginx.url, {"Upload-Length": 100 * MIB}, bytes(100 * MIB))
        assert answer.status == status and answer.body.startswith(code), answer
        assert nginx.buffered_files() == []


@versions
@pytest.mark.parametrize("upstream", ["tcp", "unix"])
def test_events_come_as_they_happen(tmp_path: Path, certificate: Certificate, version: str, upstream: str) -> None:
    sock = tmp_path / "http.sock"
    with (
        ServerProcess(tmp_path / "data", "-behind-proxy", unix=str(sock) if upstream == "unix" else None) as server,
        running_nginx(
            tmp_path / "nginx", f"unix:{sock}" if upstream == "unix" else f"127.0.0.1:{server.port}", certificate
        ) as nginx,
    ):
        url = create(nginx, version, 10)
        events = url.replace("/files/", "/files/.events/")
        command = nginx.command(version, "GET", events, {"Accept": "text/event-stream"}, "--no-buffer")
        with subprocess.Popen(command, stdout=subprocess.PIPE) as watcher:
            assert watcher.stdout is not None
            until_line(watcher.stdout, '"offset":0')  # while nothing happens, so nothing pushes it out
            assert patch(nginx, version, url, 0, b"12345").status == 204
            until_line(watcher.stdout, '"offset":5')
            assert patch(nginx, version, url, 5, b"67890").status == 204
            until_line(watcher.stdout, '"offset":10')
            assert watcher.wait(30) == 0  # the end of the upload ends the stream


def until_line(stream: IO[bytes], part: str) -> None:
    """Read up to a line that contains this; the test's own limit bounds the wait."""
    for line in stream:
        if part in line.decode().replace(" ", ""):
            return
    raise AssertionError(f"the stream ended without {part}")


@versions
def test_big_download_is_not_buffered(nginx: Nginx, server: ServerProcess, tmp_path: Path, version: str) -> None:
    data = make_file(tmp_path / "big.bin", 40 * MIB).read_bytes()
    path = server.client().create(len(data), data)
    command = nginx.command(version, "GET", nginx.url.removesuffix("/files/") + path, {})
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    start = process.stdout.read(39 * MIB)
    assert nginx.buffered_files() == []
    assert start + process.stdout.read() == data
    process.stdout.close()
    assert process.wait(30) == 0


# Connections


def upstream_connections(port: int) -> set[str]:
    """The peers of the server's connections, in whatever state, TIME_WAIT included."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {fields[2] for fields in lines if int(fields[1].split(":")[1], 16) == port and fields[3] != "0A"}


def test_connections_to_the_server_are_kept(tmp_path: Path, certificate: Certificate) -> None:
    with (
        ServerProcess(tmp_path / "data", "-behind-proxy") as server,
        running_nginx(tmp_path / "nginx", f"127.0.0.1:{server.port}", certificate) as nginx,
    ):
        for _ in range(10):
            url = create(nginx, "1.1", 5)
            assert patch(nginx, "2", url, 0, b"12345").status == 204
        # At most one for each of nginx's two workers.
        assert 1 <= len(upstream_connections(server.port)) <= 2, upstream_connections(server.port)


@versions
def test_over_a_unix_socket(tmp_path: Path, certificate: Certificate, version: str) -> None:
    sock = tmp_path / "http.sock"
    with (
        ServerProcess(tmp_path / "data", "-behind-proxy", unix=str(sock)) as server,
        running_nginx(tmp_path / "nginx", f"unix:{sock}", certificate) as nginx,
    ):
        source = make_file(tmp_path / "source.bin", 5 * MIB)
        url = create(nginx, version, 5 * MIB)
        assert url.startswith(nginx.url)
        assert patch(nginx, version, url, 0, source.read_bytes()).status == 204
        assert_stored(server.upload_dir, url, source)


def test_server_restarted_behind_nginx(tmp_path: Path, certificate: Certificate) -> None:
    with (
        ServerProcess(tmp_path / "data", "-behind-proxy") as first,
        running_nginx(tmp_path / "nginx", f"127.0.0.1:{first.port}", certificate) as nginx,
    ):
        url = create(nginx, "1.1", 10)
        assert patch(nginx, "1.1", url, 0, b"12345").status == 204
        first.terminate()
        assert nginx.request("1.1", "HEAD", url).status == 502
        with ServerProcess(tmp_path / "data", "-behind-proxy", f"-port={first.port}"):
            assert offset_of(nginx, "1.1", url) == 5
            assert patch(nginx, "1.1", url, 5, b"67890").status == 204


@pytest.mark.parametrize("upstream", ["tcp", "unix"])
def test_a_restart_without_a_gap_behind_nginx(tmp_path: Path, certificate: Certificate, upstream: str) -> None:
    """Uploads are created meanwhile, which nginx does not try twice: each connection that it keeps open must be answered on."""
    sock = tmp_path / "http.sock"
    created: list[str] = []
    failures: list[str] = []
    stop = threading.Event()
    with (
        ServerProcess(tmp_path / "data", "-behind-proxy", unix=str(sock) if upstream == "unix" else None) as server,
        running_nginx(
            tmp_path / "nginx", f"unix:{sock}" if upstream == "unix" else f"127.0.0.1:{server.port}", certificate
        ) as nginx,
    ):
        context = ssl.create_default_context(cafile=str(certificate.certificate))

        def upload() -> None:
            while not stop.is_set():
                with TusClient(("127.0.0.1", nginx.port)).connect() as connection:
                    connection.sock = context.wrap_socket(connection.sock, server_hostname="localhost")
                    headers = {"Upload-Length": 5, "Content-Type": OFFSET_STREAM}
                    answer = connection.request("POST", "/files/", headers, b"hello")
                if answer.status == 201:
                    created.append(answer.headers["location"])
                else:
                    failures.append(f"{answer.status} {answer.text}")

        def go_on() -> None:
            before = len(created)
            until(lambda: len(created) > before + 20 or failures)

        threads = [threading.Thread(target=upload) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            leader = server.pid
            for _ in range(3):
                go_on()
                leader = restart(server, leader)
            go_on()
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        try:
            assert not failures, nginx.errors[-2000:]
            assert all(visible_offset(server.client(), path_of(url)) == 5 for url in created)
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            until_gone(leader)


# Stock clients through it


@pytest.mark.parametrize("options", [{}, {"chunkSize": 2 * MIB}, {"parallelUploads": 4}], ids=str)
def test_tus_js_client(nginx: Nginx, server: ServerProcess, tmp_path: Path, options: dict[str, object]) -> None:
    source = make_file(tmp_path / "source.bin", 9 * MIB + 3)
    env = {"NODE_EXTRA_CA_CERTS": str(nginx.certificate.certificate)}
    with JsClient(source, env=env, endpoint=nginx.url, **options) as client:
        url = client.finish()
    assert url.startswith(nginx.url)
    assert_stored(server.upload_dir, url, source)


def test_tuspy(nginx: Nginx, server: ServerProcess, tmp_path: Path) -> None:
    source = make_file(tmp_path / "source.bin", 9 * MIB + 3)
    script = (
        "import sys; from tusclient.client import TusClient;"
        "u = TusClient(sys.argv[1]).uploader(sys.argv[2], chunk_size=2 << 20, upload_checksum=True); u.upload(); print(u.url)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, nginx.url, str(source)],
        env={**os.environ, "REQUESTS_CA_BUNDLE": str(nginx.certificate.certificate)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_stored(server.upload_dir, done.stdout.strip(), source)


# The how-to itself


def test_every_directive_is_explained() -> None:
    text = SHIPPED.with_suffix(".md").read_text()
    lines = (line.split("#")[0].strip() for line in SHIPPED.read_text().splitlines())
    plain = {"listen", "server", "server_name", "upstream", "ssl_certificate", "ssl_certificate_key", "ssl_protocols"}
    used = {line.split()[0].rstrip(";") for line in lines if line} - plain - {"proxy_pass", "}"}
    assert "proxy_request_buffering" in used
    assert not [name for name in used if f"`{name}" not in text]


def test_the_check_in_the_how_to(nginx: Nginx, tmp_path: Path) -> None:
    (script,) = re.findall(r"^```sh\n(.*?)^```$", SHIPPED.with_suffix(".md").read_text(), re.MULTILINE | re.DOTALL)
    script = render(script, {"https://uploads.example.org/files/": nginx.url})
    env = {**os.environ, "CURL_CA_BUNDLE": str(nginx.certificate.certificate)}
    done = subprocess.run(["sh", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    offsets = [int(line.split(": ")[1]) for line in done.stdout.splitlines()]
    assert len(offsets) == 2 and min(offsets) > 2_000_000, done.stdout + done.stderr
