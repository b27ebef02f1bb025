"""nginx with the configuration that docs/how-to/nginx.conf tells people to copy, and curl to talk to it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.interop.clients import need_commands
from tests.support.waiting import until
from tests.support.wire import OFFSET_STREAM

STREAM_RESET = 92
"""curl's exit status for an HTTP/2 stream that was not closed cleanly."""

SHIPPED = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "nginx.conf"
SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))

# What Debian's nginx.conf puts around conf.d/*.conf, with everything it writes kept below one directory.
AROUND = """
daemon off;
{user}
worker_processes 2;
pid {home}/nginx.pid;
error_log {home}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log {home}/access.log;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    sendfile on;
    tcp_nopush on;
    gzip on;
    include {home}/conf.d/tusd-py.conf;
}}
"""


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@dataclass(frozen=True)
class Certificate:
    """For localhost and 127.0.0.1, signed by itself."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        need_commands("openssl")
        made = cls(folder / "server.crt", folder / "server.key")
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        files = ["-keyout", str(made.key), "-out", str(made.certificate)]
        subprocess.run([*new, "-subj", "/CN=localhost", "-addext", names, *files], check=True, capture_output=True, timeout=30)
        return made


def render(template: str, replacements: dict[str, str]) -> str:
    """Every text on the left must be there, or the shipped file has changed and this must follow."""
    for old, new in replacements.items():
        assert old in template, f"{old!r} is not in {SHIPPED.name}"
        template = template.replace(old, new)
    return template


@contextmanager
def running_nginx(
    home: Path, upstream: str, certificate: Certificate, changes: dict[str, str] | None = None, around: str = ""
) -> Iterator[Nginx]:
    """nginx in front of `upstream` (`127.0.0.1:PORT` or `unix:PATH`).

    `changes` are made to the shipped file, `around` is put in front of it; `{home}` in it is nginx's own folder.
    """
    need_commands("curl")
    if (program := shutil.which("nginx", path=SYSTEM_PATH)) is None:
        need_commands("nginx")
    plain, tls = free_ports(2)
    (home / "conf.d").mkdir(parents=True)
    shipped = render(
        SHIPPED.read_text(),
        {
            "server 127.0.0.1:8080;": f"server {upstream};",
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "listen [::]:80;": "",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{tls} ssl http2;",
            "listen [::]:443 ssl http2;": "",
            "/etc/ssl/uploads.example.org.crt": str(certificate.certificate),
            "/etc/ssl/uploads.example.org.key": str(certificate.key),
            "uploads.example.org": "localhost 127.0.0.1",
            **(changes or {}),
        },
    )
    shipped = around.replace("{home}", str(home)) + shipped
    (home / "conf.d" / "tusd-py.conf").write_text(shipped)
    user = "user root;" if os.geteuid() == 0 else ""  # who may read the test's directories
    (home / "nginx.conf").write_text(AROUND.format(home=home, user=user))
    command = [str(program), "-p", str(home), "-c", str(home / "nginx.conf"), "-e", str(home / "error.log")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    nginx = Nginx(home, plain, tls, certificate)

    def listens() -> bool:
        assert process.poll() is None, process.communicate()[1].decode()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", tls)) == 0

    try:
        until(listens, what="nginx listens")
        yield nginx
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@dataclass
class Answer:
    version: str
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Nginx:
    home: Path
    plain_port: int
    port: int
    certificate: Certificate
    _count: int = field(default=0, repr=False)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/files/"

    @property
    def errors(self) -> str:
        return (self.home / "error.log").read_text()

    def buffered_files(self) -> list[Path]:
        return [path for folder in ("body", "proxy") for path in (self.home / folder).rglob("*") if path.is_file()]

    def command(self, version: str, method: str, url: str, headers: dict[str, object], *options: str) -> list[str]:
        """A curl command. `version` is `1.1` or `2`."""
        fields: list[str] = []
        for name, value in ({"Tus-Resumable": "1.0.0"} | headers).items():
            fields += ["--header", f"{name}: {value}" if value != "" else f"{name}:"]  # the latter: do not send it
        how = ["--head"] if method == "HEAD" else ["--request", method]
        base = ["curl", "-sS", f"--http{version}", "--cacert", str(self.certificate.certificate), "--max-time", "60"]
        return [*base, *how, *fields, *options, url]

    def request(
        self, version: str, method: str, url: str, headers: dict[str, object] | None = None, body: bytes | None = None
    ) -> Answer:
        self._count += 1
        head, content = self.home / f"head-{self._count}", self.home / f"body-{self._count}"
        extra = ["--dump-header", str(head), "--output", str(content)]
        if body is not None:
            extra += ["--data-binary", "@-"]
            headers = {"Content-Type": OFFSET_STREAM, "Expect": ""} | (headers or {})
        command = self.command(version, method, url, headers or {}, *extra)
        done = subprocess.run(command, input=body, capture_output=True, timeout=70, check=False)
        # nginx resets an HTTP/2 stream whose answer came before the body's end: with NO_ERROR, behind the whole answer, as RFC
        # 9113, 8.1, has it (test_nginx.py: test_an_early_refusal_over_http2_is_whole...). curl 7.88 may exit with 92 even so:
        # its http2.c does so when it has something left to send on a stream that it knows to be closed. The answer is whole,
        # which the checks of its status and its body see to.
        ended = (0, STREAM_RESET) if version == "2" and body else (0,)
        assert done.returncode in ended and head.exists(), f"{done.returncode} {done.stderr.decode()}\n{self.errors[-3000:]}"
        # With 1xx answers there are several heads; the last one counts.
        first, *lines = re.split(r"\r\n\r\n", head.read_bytes().decode().rstrip("\r\n"))[-1].split("\r\n")
        protocol, status, *_ = first.split(" ")
        pairs = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        received = content.read_bytes() if content.exists() and method != "HEAD" else b""
        return Answer(protocol.removeprefix("HTTP/"), int(status), pairs, received)
