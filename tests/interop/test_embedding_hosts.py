"""Examples with hooks and authorisation (docs/examples), each served as it stands there and used by tuspy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.interop.clients import assert_stored, make_file
from tests.interop.test_embedding import EXAMPLES, HTTPTOOLS, HYPERCORN, ROOT, Host, Hosted, write_examples
from tests.support.waiting import begin_patch, until, until_offset
from tests.wire.test_status import Events

MIB = 1024 * 1024
ANN, BOB, ROOT_USER = ({"Authorization": f"Bearer {name}'s token"} for name in ("ann", "bob", "root"))

Serve = Callable[[Host], Hosted]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with closing(Servers(tmp_path)) as servers:
        yield servers


class Servers:
    def __init__(self, folder: Path) -> None:
        self._folder, self._running = folder, list[Hosted]()

    def __call__(self, host: Host) -> Hosted:
        self._running.append(Hosted(host, self._folder))
        return self._running[-1]

    def close(self) -> None:
        for each in self._running:
            each.kill()


def tuspy(hosted: Hosted, file: Path, *, metadata: dict[str, str] | None = None, **headers: str) -> dict[str, Any]:
    """Upload by tuspy in pieces; what has come of it."""
    options = {"chunk_size": MIB, "metadata": metadata or {"filename": file.name}}
    task = {"endpoint": hosted.url, "file": str(file), "how": "blocking", "options": options}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "interop" / "tuspy_upload.py")],
        input=json.dumps({**task, "storage": None, "stop_at": None, "headers": headers}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def id_of(url: str) -> str:
    return url.rsplit("/", 1)[1]


def assert_clean_stop(hosted: Hosted) -> None:
    hosted.process.send_signal(signal.SIGTERM)
    hosted.process.wait(20)
    assert "Traceback" not in hosted.log and "was destroyed" not in hosted.log, hosted.log


SERVERS = pytest.mark.parametrize("server", [HTTPTOOLS, HYPERCORN], ids=["uvicorn", "hypercorn"])


@SERVERS
def test_starlette_with_hooks_and_authorisation(serve: Serve, tmp_path: Path, server: tuple[str, ...]) -> None:
    hosted = serve(Host("hooks", (*server, "hooks_app:app")))
    file = make_file(tmp_path / "report.pdf", 3 * MIB + 7)
    done = tuspy(hosted, file, **ANN)
    assert (done["error"], done["offset"]) == (None, 3 * MIB + 7)
    assert_stored(hosted.data, done["url"], file)
    until(
        lambda: json.loads(hosted.client().get("/documents").body) == {id_of(done["url"]): {"name": file.name, "owner": "ann"}}
    )
    tus = hosted.client()
    assert tus.get(f"/files/{id_of(done['url'])}", **BOB).status == 403
    assert tus.get(f"/files/{id_of(done['url'])}").status == 401
    assert tuspy(hosted, make_file(tmp_path / "movie.mp4", 10), **ANN)["error"] == 422
    assert tuspy(hosted, file)["error"] == 401
    refused = tus.request("POST", "/files/", {"Upload-Length": 11 * MIB, "Upload-Metadata": "filename YS5wZGY=", **ANN})
    assert refused.status == 413
    assert_clean_stop(hosted)


@SERVERS
def test_fastapi_with_dependencies(serve: Serve, tmp_path: Path, server: tuple[str, ...]) -> None:
    hosted = serve(Host("users", (*server, "fastapi_users:app")))
    file = make_file(tmp_path / "source.bin", 3 * MIB + 7)
    done = tuspy(hosted, file, **ANN)
    assert (done["error"], done["offset"]) == (None, 3 * MIB + 7)
    assert done["url"].startswith(hosted.url)
    assert_stored(hosted.data, done["url"], file)
    tus, path = hosted.client(), f"/files/{id_of(done['url'])}"
    assert tus.get(path, **ANN).body == file.read_bytes() == tus.get(path, **ROOT_USER).body
    listed = [json.loads(tus.get("/files/.uploads", **who).body)["uploads"] for who in (ANN, ROOT_USER)]
    assert [[each["owner"] for each in uploads] for uploads in listed] == [["ann"], ["ann"]]
    assert json.loads(tus.get(f"/files/.status/{id_of(done['url'])}", **ANN).body)["finished"]
    assert tus.get(path).status in (401, 403)  # FastAPI's own
    assert tus.get(path, authorization="Bearer nobody's").text == '{"detail":"who are you?"}'
    assert tus.request("PUT", path, ANN).status == 405
    assert_clean_stop(hosted)


def test_dependencies_end_before_the_upload_does(serve: Serve, tmp_path: Path) -> None:
    """A database session must not stay open for hours. `scope="function"` in the example sees to it."""
    example = (EXAMPLES / "fastapi_users.py").read_text()
    source = example.replace("    yield Database()\n", '    yield Database()\n    print("session ended", flush=True)\n')
    assert source != example
    (tmp_path / "watched.py").write_text(source)
    hosted = serve(Host("users", (*HTTPTOOLS, "watched:app")))
    tus = hosted.client()
    path = tus.create(10, **ANN)
    until(lambda: hosted.log.count("session ended") == 1)
    with begin_patch(tus, path, 0, 10, **ANN) as connection:
        connection.send(b"hello")
        until(lambda: hosted.log.count("session ended") == 2)
        connection.send(b"world")
        assert connection.answer("PATCH").offset == 10


@pytest.mark.parametrize("app", ["starlette_app:app", "fastapi_app:app", "alone:app"])
def test_streams_do_not_hold_up_a_host_that_stops(serve: Serve, app: str) -> None:
    """uvicorn waits for all answers to end before it says that it stops."""
    hosted = serve(Host("stopping", (*HTTPTOOLS, app), base="/" if app == "alone:app" else "/files/"))
    tus = hosted.client()
    path = tus.create(10)
    with closing(Events(tus, f"{hosted.host.base}.events/{id_of(path)}")) as events:
        assert events.next()
        assert_clean_stop(hosted)
        assert events.next() is None


@SERVERS
def test_events_in_a_host(serve: Serve, server: tuple[str, ...]) -> None:
    hosted = serve(Host("events", (*server, "starlette_app:app")))
    tus = hosted.client()
    path = tus.create(2 * MIB)
    with closing(Events(tus, f"/files/.events/{id_of(path)}")) as events:
        with begin_patch(tus, path, 0, 2 * MIB) as connection:
            connection.send(b"x" * MIB)
            until_offset(tus, path, MIB)
            events.until(lambda _, data: data["offset"] == MIB and data["state"] == "receiving")
            connection.send(b"x" * MIB)
            assert connection.answer("PATCH").offset == 2 * MIB
        assert events.until(lambda name, _: name != "progress")[0] == "finished"
        assert events.next() is None


# Django

SESSION = """
import django
django.setup()
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
user = get_user_model().objects.create_user("ann", "ann@example.org", "secret")
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.create()
print(session.session_key)
"""


def run_django(folder: Path, *command: str) -> str:
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "django_settings", "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def session(tmp_path: Path) -> dict[str, str]:
    """The headers of somebody who is logged in."""
    write_examples(tmp_path)
    run_django(tmp_path, "-m", "django", "migrate", "--verbosity=0")
    return {"Cookie": f"sessionid={run_django(tmp_path, '-c', SESSION)}"}


@SERVERS
def test_django(serve: Serve, tmp_path: Path, session: dict[str, str], server: tuple[str, ...]) -> None:
    hosted = serve(Host("django", (*server, "django_asgi:application")))
    tus = hosted.client()
    assert tus.get("/").text == "hello AnonymousUser\n" and tus.get("/", **session).text == "hello ann\n"
    file = make_file(tmp_path / "source.bin", 3 * MIB + 7)
    done = tuspy(hosted, file, **session)
    assert (done["error"], done["offset"]) == (None, 3 * MIB + 7)
    assert done["url"].startswith(hosted.url)
    assert_stored(hosted.data, done["url"], file)
    mails = tmp_path / "mails"
    until(lambda: mails.is_dir() and any(f"source.bin, {3 * MIB + 7} bytes" in each.read_text() for each in mails.iterdir()))
    path = f"/files/{id_of(done['url'])}"
    assert tus.get(path, **session).body == file.read_bytes()
    assert tus.get(path).status == 401 and tuspy(hosted, file)["error"] == 401
    assert tus.get(path, cookie="sessionid=made-up").status == 401
    assert_clean_stop(hosted)
