"""-unix-sock: what may be in the socket's place, and what is left behind."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.server.test_starting import fails
from tests.support.server import ServerProcess
from tests.support.waiting import until


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "tus.sock"


def leave_stale(place: Path) -> None:
    """A socket file on which nobody listens any more."""
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(place))


def connects(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(str(place)) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_uploads_over_a_unix_socket(start_server: StartServer, place: Path, workers: int) -> None:
    server = start_server(f"-workers={workers}", unix=str(place))
    path = server.client().create(5)
    assert server.client().patch(path, 0, b"hello").offset == 5
    assert server.terminate() == 0
    assert not place.exists()
    assert "You can now upload" not in server.log
    assert f"Using {place} as socket to listen." in server.log


def test_a_socket_left_behind_is_replaced(tmp_path: Path, place: Path) -> None:
    leave_stale(place)
    with ServerProcess(tmp_path / "data", unix=str(place)) as server:
        until(lambda: connects(place), what=server)
        assert server.client().create(1)


def test_a_socket_in_use_is_left_alone(start_server: StartServer, place: Path, tmp_path: Path) -> None:
    server = start_server(unix=str(place))
    sentence = fails(f"-unix-sock={place}", f"-upload-dir={tmp_path}")
    assert sentence == f"cannot listen on {place}: another process listens there"
    assert server.client().create(1)


def test_any_other_file_is_left_alone(place: Path, tmp_path: Path) -> None:
    place.write_text("precious")
    assert fails(f"-unix-sock={place}", f"-upload-dir={tmp_path}") == f"cannot listen on {place}: it exists and is not a socket"
    assert place.read_text() == "precious"


def test_a_link_to_a_socket_is_another_file(place: Path, tmp_path: Path) -> None:
    leave_stale(tmp_path / "real")
    place.symlink_to(tmp_path / "real")
    assert "is not a socket" in fails(f"-unix-sock={place}", f"-upload-dir={tmp_path}")


@pytest.mark.parametrize("path", ["/nowhere/tus.sock", "x" * 200])
def test_a_place_that_cannot_have_a_socket(path: str, tmp_path: Path) -> None:
    assert fails(f"-unix-sock={path}", f"-upload-dir={tmp_path}").startswith(f"cannot listen on the UNIX socket {path}: ")


def test_the_socket_of_a_successor_is_not_removed(start_server: StartServer, place: Path) -> None:
    server = start_server(unix=str(place))
    assert server.client().create(1)
    os.unlink(place)
    leave_stale(place)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert place.is_socket()
