"""Ways of asking run on uvloop in the stand-alone server, and on the host's loop where the application is embedded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def no_complaints_of_the_loop(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What a callback raises reaches nobody but the log."""
    yield
    records = caplog.get_records("call")
    complaints = [each for each in records if each.name == "asyncio" and each.levelno >= logging.ERROR]
    assert not [each.getMessage() for each in complaints if not _is_of_an_earlier_loop(each)]


def _is_of_an_earlier_loop(record: logging.LogRecord) -> bool:
    """gRPC has one queue for all loops of a process: what is left in it of a test that has ended is brought up by the loop of
    the next one."""
    error = record.exc_info[1] if record.exc_info else None
    return "PollerCompletionQueue" in record.getMessage() and str(error) == "Event loop is closed"
