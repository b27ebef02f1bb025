"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import server
from tests.support.server import ServerProcess
from tests.support.wire import TusClient

pytest_plugins = ["tests.support.logs", "tests.support.strictness"]

StartServer = Callable[..., ServerProcess]

WATCHED = frozenset({"fuzz", "interop", "model", "wire"})
"""Folders whose servers run under the watchdog. TUSD_PY_TEST_WATCHDOG=1 adds the others, 0 takes these out."""


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore SIGINT, and so would all that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of the test starts a server."""
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    server.watched = os.environ.get("TUSD_PY_TEST_WATCHDOG", str(int(folder in WATCHED))) == "1"


@pytest.fixture(autouse=True)
def no_complaints() -> Iterator[None]:
    """A server that serves several tests answers for each of them: the one that made it complain fails."""
    yield
    complaints = [complaint for each in list(server.servers) for complaint in each.complaints()]
    assert not complaints, "a server complained:\n\n" + "\n\n".join(complaints)


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
