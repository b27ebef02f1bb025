"""`tusd-py doctor` against the server, against nginx as docs/how-to/nginx.conf sets it up, and against nginx set up wrongly."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.interop.proxy import Certificate, free_ports, running_nginx
from tests.support.server import ServerProcess
from tusd_py.cli.doctor import main
from tusd_py.doctor import Level, Options, Report, Unreachable, bodies, examine

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("examined") / "data", "-behind-proxy") as server:
        yield server


def look(url: str, **options: object) -> Report:
    """An examination that does not take its time."""
    given = {"insecure": True, "pause": 0.2, "rate": 16 * MIB, "timeout": 5.0, **options}
    return examine(Options(url=url, **given), lambda subject: None)  # type: ignore[arg-type]


IN_VAIN = 2.0
"""Seconds instead of five that an examination waits for what is not going to come."""


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent is not going to show: nobody waits long for it."""
    monkeypatch.setattr(bodies, "_PATIENCE", 0.3)


def problems(report: Report) -> dict[str, str]:
    return {finding.subject: finding.sentence for finding in report.findings if finding.level is Level.PROBLEM}


def uploads(server: ServerProcess) -> list[Path]:
    return [path for path in server.upload_dir.iterdir() if path.name != ".tusd-py"]


# All is well


def test_our_server(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([server.url, "--pause=0.2"]) == 0
    out = capsys.readouterr().out
    assert f"0 problems found at {server.url}\n" in out and "PROBLEM" not in out
    for subject in ("server", "location", "cors", "headers", "methods", "method override", "delete", "caching", "chunked"):
        assert f"ok      {subject}: " in out
    assert "3145728 of 3145728 bytes of an upload that broke off have survived" in out
    assert uploads(server) == []


def test_nginx_as_documented(tmp_path: Path, server: ServerProcess, certificate: Certificate) -> None:
    with running_nginx(tmp_path / "nginx", f"127.0.0.1:{server.port}", certificate) as nginx:
        report = look(nginx.url, http2=True)
    assert problems(report) == {} and report.status == 0
    found = {finding.subject for finding in report.findings if finding.level is Level.OK}
    assert {"buffering", "http2", "http2 buffering", "body size", "early answers", "downloads", "expect"} <= found
    assert uploads(server) == []


# What is set up wrongly: what is changed in the documented file, which problem is found, a part of the sentence and of a remedy

FORWARDED_PROTO = "proxy_set_header X-Forwarded-Proto $scheme;"
INSIDE = "        proxy_pass http://tusd_py;"

WRONG = {
    "buffering": (
        {"proxy_request_buffering off;": ""},
        "buffering",
        "0 of 3145728 bytes",
        "nginx: proxy_request_buffering off;",
    ),
    "body size": (
        {"client_max_body_size 0;": "client_max_body_size 1m;"},
        "body size",
        "something in front of the server refuses a PATCH of more than about 1 MiB with 413",
        "nginx: client_max_body_size 0;",
    ),
    "scheme": ({FORWARDED_PROTO: ""}, "location", "begins with http: where clients come by https", FORWARDED_PROTO),
    "host": (
        {"proxy_redirect off;": r"proxy_redirect ~^https?://[^/]+/(.*)$ https://wrong.example/$1;"},
        "location",
        "names another host than clients use, wrong.example instead of localhost",
        "proxy_redirect off;",
    ),
    "prefix": (
        {"proxy_redirect off;": r"proxy_redirect ~^(https?://[^/]+)/files/(.*)$ $1/other/$2;"},
        "prefix",
        "Location leads out of /files/",
        "no proxy_redirect",
    ),
    "hidden location": ({INSIDE: f"proxy_hide_header Location; {INSIDE}"}, "response headers", "Location", "proxy_hide_header"),
    "hidden offset": (
        {INSIDE: f"proxy_hide_header Upload-Offset; {INSIDE}"},
        "response headers",
        "HEAD does not show Upload-Offset",
        "nginx: no `proxy_hide_header` for it",
    ),
    "hidden announcement": (
        {INSIDE: f"proxy_hide_header Tus-Extension; {INSIDE}"},
        "response headers",
        "Tus-Extension missing in the answer to OPTIONS",
        "proxy_hide_header",
    ),
    "hidden cors": (
        {INSIDE: f"proxy_hide_header Access-Control-Expose-Headers; {INSIDE}"},
        "cors",
        "browsers hide upload-offset, upload-length, location, tus-resumable",
        "no `proxy_hide_header` for them",
    ),
    "doubled cors": (
        {INSIDE: f"add_header Access-Control-Allow-Origin * always; {INSIDE}"},
        "cors",
        "Access-Control-Allow-Origin is given twice",
        "nginx: no `add_header Access-Control-...`",
    ),
    "lost metadata": (
        {FORWARDED_PROTO: f'{FORWARDED_PROTO} proxy_set_header Upload-Metadata "";'},
        "request headers",
        "Upload-Metadata does not come back",
        "proxy_set_header",
    ),
    "lost version": (
        {FORWARDED_PROTO: f'{FORWARDED_PROTO} proxy_set_header Tus-Resumable "";'},
        "request headers",
        "412 ERR_UNSUPPORTED_VERSION",
        "proxy_set_header that empties",
    ),
    "lost override": (
        {FORWARDED_PROTO: f'{FORWARDED_PROTO} proxy_set_header X-HTTP-Method-Override "";'},
        "method override",
        "POST with X-HTTP-Method-Override: PATCH is answered with 405",
        "proxy_set_header that empties",
    ),
    "cache": (
        {"proxy_cache off;": "proxy_cache small; proxy_cache_valid any 1m; proxy_ignore_headers Cache-Control;"},
        "caching",
        "HEAD",
        "nginx: proxy_cache off;",
    ),
    "cache by HEAD": (
        {
            "proxy_buffering off;": "",
            "proxy_cache off;": "proxy_cache small; proxy_cache_valid any 1m; proxy_ignore_headers Cache-Control;"
            "proxy_cache_convert_head off; proxy_cache_key $request_method$uri;",
        },
        "caching",
        "HEAD shows an old offset: 0 after 5 bytes were confirmed",
        "nginx: proxy_cache off;",
    ),
    "methods": (
        {INSIDE: "        limit_except GET POST HEAD OPTIONS { deny all; }\n" + INSIDE},
        "methods",
        "PATCH is answered with 403",
        "nginx: no `limit_except`",
    ),
    "held events": (
        {"proxy_buffering off;": "proxy_ignore_headers X-Accel-Buffering;"},
        "events",
        "nothing comes of a stream of events",
        "proxy_buffering off;",
    ),
    "compression": (
        {"gzip off;": "gzip on; gzip_proxied any; gzip_types *; gzip_min_length 1;"},
        "downloads",
        "loses its length",
        "gzip off;",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_set_up_wrongly_is_named(
    request: pytest.FixtureRequest, tmp_path: Path, server: ServerProcess, certificate: Certificate, name: str
) -> None:
    changes, subject, sentence, remedy = WRONG[name]
    if name == "buffering":
        request.getfixturevalue("brief")
    waits = {"timeout": IN_VAIN} if name in ("buffering", "held events") else {}
    around = "proxy_cache_path {home}/cache keys_zone=small:1m;\n"
    with running_nginx(tmp_path / "nginx", f"127.0.0.1:{server.port}", certificate, changes, around) as nginx:
        report = look(nginx.url, **waits)
        assert report.status == 1
        assert sentence in problems(report).get(subject, "nothing"), report.findings
        (found,) = (one for one in report.findings if one.subject == subject and one.level is Level.PROBLEM)
        assert any(remedy in one for one in found.remedies), found.remedies
        # Nothing else is blamed on anybody, but for what is the same.
        assert set(problems(report)) - {subject} <= {"methods": {"delete"}}.get(subject, set()), problems(report)


def test_a_client_that_pauses(tmp_path: Path, server: ServerProcess, certificate: Certificate) -> None:
    changes = {"client_body_timeout 5m;": "client_body_timeout 1s;"}
    with running_nginx(tmp_path / "nginx", f"127.0.0.1:{server.port}", certificate, changes) as nginx:
        found = problems(look(nginx.url, pause=3.0))
    assert set(found) == {"timeouts"}


@pytest.mark.usefixtures("brief")
def test_buffering_shows_over_http2_too(tmp_path: Path, server: ServerProcess, certificate: Certificate) -> None:
    changes = {"proxy_request_buffering off;": ""}
    with running_nginx(tmp_path / "nginx", f"127.0.0.1:{server.port}", certificate, changes) as nginx:
        assert set(problems(look(nginx.url, http2=True, timeout=IN_VAIN))) == {"buffering", "http2 buffering"}


# What can't be examined


def test_an_address_that_redirects(tmp_path: Path, server: ServerProcess, certificate: Certificate) -> None:
    with running_nginx(tmp_path / "nginx", f"127.0.0.1:{server.port}", certificate) as nginx:
        plain = f"http://localhost:{nginx.plain_port}/files/"
        with pytest.raises(Unreachable, match="redirects to https://localhost/files/"):
            look(plain)


def test_nobody_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)
    assert main([f"http://127.0.0.1:{port}/files/"]) == 2
    assert capsys.readouterr().err == f"tusd-py doctor: http://127.0.0.1:{port}/files/ can't be reached: Connection refused\n"


@pytest.mark.parametrize("url", ["uploads", "ftp://host/files/", "http:///files/", "http://host:x/"])
def test_what_is_no_address(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([url]) == 2
    assert "is no address: expected one such as https://uploads.example.org/files/" in capsys.readouterr().err


def test_another_kind_of_server(tmp_path: Path, server: ServerProcess, certificate: Certificate) -> None:
    changes = {INSIDE: "        return 404;"}
    with (
        running_nginx(tmp_path / "nginx", f"127.0.0.1:{server.port}", certificate, changes) as nginx,
        pytest.raises(Unreachable, match="is no tus server: it answers POST with 404"),
    ):
        look(nginx.url)


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        accepted: list[socket.socket] = []
        thread = threading.Thread(target=lambda: accepted.append(silent.accept()[0]))
        thread.start()
        with pytest.raises(Unreachable, match="no answer in time"):
            look(f"http://127.0.0.1:{silent.getsockname()[1]}/files/", timeout=0.3)
        thread.join(10)
        for one in accepted:
            one.close()


def test_a_server_that_ends_in_mid_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:

        def answer() -> None:
            one, _ = rude.accept()
            with one:
                one.recv(1 << 16)
                one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unreachable, match="can't be reached"):
            look(f"http://127.0.0.1:{rude.getsockname()[1]}/files/")
        thread.join(10)


def test_a_certificate_that_is_not_trusted(tmp_path: Path, server: ServerProcess, certificate: Certificate) -> None:
    with (
        running_nginx(tmp_path / "nginx", f"127.0.0.1:{server.port}", certificate) as nginx,
        pytest.raises(Unreachable, match="certificate verify failed"),
    ):
        look(nginx.url, insecure=False)


# Limits and features of the server


def test_a_server_with_a_limit_and_without_downloads_and_deletions(start_server: StartServer) -> None:
    server = start_server("-max-size=200000000", "-disable-download", "-disable-termination", "-disable-cors")
    report = look(server.url)
    assert problems(report) == {}
    notes = {finding.subject for finding in report.findings if finding.level is Level.NOTE}
    assert {"cors", "downloads", "cleaning up"} <= notes
    assert len(report.left) == len(uploads(server)) // 2


TOKEN = "Zm9vYmFyYmF6cXV4Zm9vYmFy"


def test_a_server_that_wants_to_know_who_asks(start_server: StartServer, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN} alice\n")
    tokens.chmod(0o600)
    server = start_server(f"-auth-tokens={tokens}")
    with pytest.raises(Unreachable, match=r"wants to know who asks \(401 .*: give --header 'Authorization: ...'"):
        look(server.url)
    report = look(server.url, headers=(("Authorization", f"Bearer {TOKEN}"),))
    assert problems(report) == {} and uploads(server) == []


def test_a_server_whose_upload_urls_are_permissions(start_server: StartServer, tmp_path: Path) -> None:
    """What was permitted to create has an address that needs no more; the doctor leaves it as it is given."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN} alice\n")
    tokens.chmod(0o600)
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef\n")
    secret.chmod(0o600)
    server = start_server("-url-capabilities", f"-auth-url-secret={secret}", f"-auth-tokens={tokens}")
    report = look(server.url, headers=(("Authorization", f"Bearer {TOKEN}"),))
    assert problems(report) == {} and uploads(server) == []


def test_http2_is_for_https(server: ServerProcess) -> None:
    (found,) = (one for one in look(server.url, http2=True).findings if one.subject == "http2")
    assert found.level is Level.NOTE and "over https only" in found.sentence


def test_http2_that_is_not_spoken(tmp_path: Path, server: ServerProcess, certificate: Certificate) -> None:
    changes = {" ssl http2;": " ssl;"}
    with running_nginx(tmp_path / "nginx", f"127.0.0.1:{server.port}", certificate, changes) as nginx:
        (found,) = (one for one in look(nginx.url, http2=True).findings if one.subject == "http2")
    assert found.sentence == "not examined: the address does not speak HTTP/2"


def test_json(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([server.url, "--json", "--pause=0.1", "--header", "X-Request-ID: doctor"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["status"], report["url"], report["left"]) == (0, server.url, [])
    assert {"subject", "level", "sentence", "remedies"} == set(report["findings"][0])


def test_a_header_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["http://127.0.0.1:1/", "--header", "nonsense"]) == 2
    assert "'nonsense' is no header" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["http://x/", "--pause=never"], ["http://x/", "--pause=0"]])
def test_a_command_line_that_is_not_understood(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):
        assert main(arguments) == 2
    assert "usage: tusd-py doctor" in capsys.readouterr().err
