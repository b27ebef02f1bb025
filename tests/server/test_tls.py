"""tusd's TLS modes, by handshakes in memory, and one server that speaks TLS."""

from __future__ import annotations

import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.server.test_starting import fails
from tests.support.wire import Connection
from tusd_py.server.tls import server_context
from tusd_py.settings import Settings

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*new, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True, timeout=60)
    return certificate, key


def client_context(lowest: ssl.TLSVersion, highest: ssl.TLSVersion, suites: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version, context.maximum_version = lowest, highest
    if suites:
        context.set_ciphers(suites)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """The client's side of a connection made in memory. Raises ssl.SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    for _ in range(4):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0]


def context(mode: str, pair: tuple[Path, Path]) -> ssl.SSLContext:
    return server_context(Settings(tls_mode=mode, tls_certificate=pair[0], tls_key=pair[1]))  # type: ignore[arg-type]


ACCEPTED = [
    ("tls12", TLS12, "ECDHE-RSA-AES128-GCM-SHA256", "TLSv1.2"),
    ("tls12", TLS12, "ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.2"),
    ("tls12", TLS12, "ECDHE-RSA-CHACHA20-POLY1305", "TLSv1.2"),
    ("tls12", TLS13, None, "TLSv1.3"),
    ("tls12-strong", TLS12, "ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.2"),
    ("tls13", TLS13, None, "TLSv1.3"),
]
REFUSED = [
    ("tls12", TLS12, "ECDHE-RSA-AES128-SHA256"),
    ("tls12", TLS12, "AES256-GCM-SHA384"),
    ("tls12-strong", TLS12, "ECDHE-RSA-AES128-GCM-SHA256"),
    ("tls12-strong", TLS13, None),
    ("tls13", TLS12, None),
]


@pytest.mark.parametrize(("mode", "version", "suite", "negotiated"), ACCEPTED)
def test_accepted(mode: str, version: ssl.TLSVersion, suite: str | None, negotiated: str, pair: tuple[Path, Path]) -> None:
    connection = handshake(context(mode, pair), client_context(version, version, suite))
    cipher = connection.cipher()
    assert (connection.version(), connection.selected_alpn_protocol()) == (negotiated, "http/1.1")
    assert cipher and suite in (None, cipher[0])


@pytest.mark.parametrize(("mode", "version", "suite"), REFUSED)
def test_refused(mode: str, version: ssl.TLSVersion, suite: str | None, pair: tuple[Path, Path]) -> None:
    with pytest.raises(ssl.SSLError):
        handshake(context(mode, pair), client_context(version, version, suite))


@pytest.mark.parametrize("workers", [1, 2])
def test_uploads_over_tls(start_server: StartServer, pair: tuple[Path, Path], workers: int) -> None:
    server = start_server(f"-tls-certificate={pair[0]}", f"-tls-key={pair[1]}", f"-workers={workers}")
    assert f"to: https://127.0.0.1:{server.port}/files/" in server.log
    with Connection(server.address) as connection:
        connection.sock = client_context(TLS12, TLS13).wrap_socket(connection.sock)
        answer = connection.request(
            "POST", "/files/", {"Upload-Length": 5, "Content-Type": "application/offset+octet-stream"}, b"hello"
        )
        assert (answer.status, answer.offset) == (201, 5)
        assert answer.headers["location"].startswith("https://")
    assert server.terminate() == 0


def test_certificates_that_cannot_be_used(pair: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = pair
    garbage, locked = tmp_path / "garbage.pem", tmp_path / "locked.pem"
    garbage.write_text("garbage")
    subprocess.run(
        ["openssl", "rsa", "-aes256", "-passout", "pass:x", "-in", key, "-out", locked], check=True, capture_output=True
    )

    def start(certificate: Path, key: Path) -> str:
        return fails(f"-tls-certificate={certificate}", f"-tls-key={key}", "-port=0", f"-upload-dir={tmp_path}")

    assert start(tmp_path / "no", key) == f"cannot read the TLS certificate {tmp_path / 'no'}: no such file or directory"
    assert start(certificate, tmp_path) == f"cannot read the TLS key {tmp_path}: is a directory"
    for one, other in ((garbage, key), (certificate, garbage), (certificate, locked)):
        assert start(one, other).startswith(f"the TLS certificate {one} and key {other} cannot be used: ")
