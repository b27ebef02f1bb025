"""Events through nginx: as they happen, even where nginx is set up to collect what an upstream sends into blocks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import IO

import pytest

from tests.conftest import StartServer
from tests.interop.proxy import Certificate, running_nginx
from tests.support.waiting import until, visible_offset


def next_event(stream: IO[bytes]) -> dict[str, object]:
    """The data of the next event; empty at the end."""
    for line in stream:
        if line.startswith(b"data: "):
            found: dict[str, object] = json.loads(line.removeprefix(b"data: "))
            return found
    return {}


@pytest.mark.parametrize("version", ["1.1", "2"], ids=["http1", "http2"])
@pytest.mark.parametrize("buffering", ["off", "on"])
def test_events_pass_at_once(start_server: StartServer, tmp_path: Path, version: str, buffering: str) -> None:
    server = start_server("-behind-proxy", "-status-interval=100ms")
    certificate = Certificate.make(tmp_path)
    changes = {"proxy_buffering off;": f"proxy_buffering {buffering};"}
    tus = server.client()
    path = tus.create(10)
    with running_nginx(tmp_path / "nginx", f"127.0.0.1:{server.port}", certificate, changes) as nginx:
        url = f"{nginx.url}.events/{path.rsplit('/', 1)[1]}"
        command = nginx.command(version, "GET", url, {"Tus-Resumable": ""}, "--no-buffer")
        with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
            assert curl.stdout is not None
            try:
                assert next_event(curl.stdout)["offset"] == 0
                assert tus.patch(path, 0, b"hello").status == 204
                until(lambda: visible_offset(tus, path) == 5)
                while next_event(curl.stdout)["offset"] != 5:
                    pass
                assert tus.patch(path, 5, b"world").status == 204
                while not (event := next_event(curl.stdout)).get("finished"):
                    assert event
                assert curl.stdout.read().strip() == b"" and curl.wait(10) == 0
            finally:
                curl.kill()
