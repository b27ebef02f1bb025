"""The log's two forms."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Literal

import pytest

from tusd_py.observability.logs import configure, log_event, timestamp

Configure = Callable[..., io.StringIO]
TIME = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6}"


@pytest.fixture
def configured() -> Iterator[Configure]:
    root, ours = logging.getLogger(), logging.getLogger("tusd_py")
    before = root.handlers[:], root.level, ours.level, logging.raiseExceptions

    def start(form: Literal["text", "json"] = "text", verbose: bool = True) -> io.StringIO:
        stream = io.StringIO()
        configure(form, verbose=verbose, stream=stream)
        return stream

    yield start
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    logging.raiseExceptions = before[3]


log = logging.getLogger("tusd_py.test")

TEXTS = [
    ("plain", "plain"),
    (5, "5"),
    (True, "true"),
    ("", '""'),
    ("two words", '"two words"'),
    ("a=b", '"a=b"'),
    ('say "x"', '"say \\"x\\""'),
    ("a\r\n2024/02/20 level=INFO event=Forged", '"a\\r\\n2024/02/20 level=INFO event=Forged"'),
    ("\x1b[31m", '"\\u001b[31m"'),
    ("a\u2028b\x85c", '"a\\u2028b\\u0085c"'),
]


@pytest.mark.parametrize(("value", "shown"), TEXTS)
def test_text_values(configured: Configure, value: object, shown: str) -> None:
    stream = configured()
    log_event(log, logging.INFO, "Happened", path=value, last=1)
    assert re.fullmatch(rf"{TIME} level=INFO event=Happened path={re.escape(shown)} last=1\n", stream.getvalue())
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize(("value", "shown"), TEXTS)
def test_json_values(configured: Configure, value: object, shown: str) -> None:
    stream = configured("json")
    log_event(log, logging.WARNING, "Happened", path=value)
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert list(record) == ["time", "level", "msg", "path"]
    assert (record["level"], record["msg"], record["path"]) == ("WARN", "Happened", value)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?[+-]\d\d:\d\d", record["time"])


def test_an_error_stays_on_its_line(configured: Configure) -> None:
    stream = configured()
    try:
        raise OSError("a\nb")
    except OSError as error:
        log_event(log, logging.ERROR, "Failed", error=error, id="x")
    assert re.fullmatch(rf"{TIME} level=ERROR event=Failed id=x error=.* stack=\"Traceback [^\n]*\n", stream.getvalue())


@pytest.mark.parametrize(("verbose", "events"), [(True, ["Fine", "Coarse"]), (False, ["Coarse"])])
def test_levels(configured: Configure, verbose: bool, events: list[str]) -> None:
    stream = configured(verbose=verbose)
    log_event(log, logging.DEBUG, "Fine")
    log_event(log, logging.INFO, "Coarse")
    assert re.findall(r"event=(\w+)", stream.getvalue()) == events


def test_other_libraries_are_heard_when_something_is_wrong(configured: Configure) -> None:
    stream = configured()
    logging.getLogger("asyncio").info("chatter")
    logging.getLogger("asyncio").error("trouble: %s\n", "x")
    assert stream.getvalue().endswith('level=ERROR event="trouble: x"\n')
    assert stream.getvalue().count("\n") == 1


def test_values_are_not_formatted_when_the_level_is_off(configured: Configure) -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    configured(verbose=False)
    log_event(log, logging.DEBUG, "Fine", value=Costly())


def test_the_timestamp_has_microseconds() -> None:
    assert timestamp(1_700_000_000.000007).endswith(".000007")
    assert timestamp(1_700_000_000.999999).endswith(".999999")
