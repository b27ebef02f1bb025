"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.server import ServerProcess
from tests.support.wire import TusClient

StartServer = Callable[..., ServerProcess]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers, each on `tmp_path / "data"` unless `upload_dir` says otherwise; all are killed when the test ends."""
    with ExitStack() as stack:

        def start(*args: str, upload_dir: Path | None = None, **options: object) -> ServerProcess:
            return stack.enter_context(ServerProcess(upload_dir or tmp_path / "data", *args, **options))  # type: ignore[arg-type]

        yield start


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server with default settings, for tests that leave no trace another test could see."""
    with ServerProcess(tmp_path_factory.mktemp("shared") / "data") as server:
        yield server


@pytest.fixture
def tus(shared_server: ServerProcess) -> TusClient:
    """A client of the shared server."""
    return shared_server.client()
