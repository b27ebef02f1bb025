"""A pytest plugin: logs of servers are where pytest tidies up, and shown with the tests that fail."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.support import server


@pytest.fixture(scope="session", autouse=True)
def logs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Before any server is started."""
    server.logs = tmp_path_factory.mktemp("logs")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of the servers that are running. Those of a `with` block of the test have told it with the failure."""
    report = yield
    if report.failed:
        report.sections.extend((f"log of the server in {each.upload_dir}", each.last_words) for each in list(server.servers))
    return report
