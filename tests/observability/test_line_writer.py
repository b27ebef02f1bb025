"""The thread that writes lines: order, a reader that stalls or goes away, flushing, forks, and other records among them."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.waiting import until
from tusd_py.observability import logs
from tusd_py.observability.line_writer import Dropped, LineWriter


def render(entries: Sequence[Any]) -> str:
    return "".join(f"dropped {int(entry)}\n" if isinstance(entry, Dropped) else f"{entry}\n" for entry in entries)


def pipe_writer(limit: int = 20_000) -> tuple[int, LineWriter, Any]:
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    return reader, LineWriter(stream, render, limit=limit), stream


def test_lines_come_in_order() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream, render)
    for number in range(5000):
        writer.put(number)
    assert writer.flush()
    assert stream.getvalue().split() == [str(number) for number in range(5000)]


def test_lines_come_without_a_flush() -> None:
    reader, writer, stream = pipe_writer()
    with stream, os.fdopen(reader, "rb") as received:
        writer.put("one")
        assert received.readline() == b"one\n"
        writer.put("two")
        assert received.readline() == b"two\n"


def test_lines_of_several_threads_are_all_there() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream, render)

    def put(name: str) -> None:
        for number in range(2000):
            writer.put(f"{name}{number}")

    threads = [threading.Thread(target=put, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.flush()
    lines = stream.getvalue().split()
    for name in "abcd":
        assert [line for line in lines if line.startswith(name)] == [f"{name}{number}" for number in range(2000)]


def test_a_reader_that_stalls_costs_lines_and_nothing_else() -> None:
    reader, writer, stream = pipe_writer(limit=100)
    with stream:
        line = "x" * 5000
        writer.put(line)
        sent = 1
        while writer.lost < 50:  # a pipe of 64 KiB is full by then, and so is the queue
            writer.put(line)
            sent += 1
        assert not writer.flush(timeout=0.01)
        assert len(writer._queue) <= 101
        with os.fdopen(reader, "rb") as received:
            for _ in range(sent - 50):
                assert received.readline() == line.encode() + b"\n"
            until(lambda: not writer._queue)
            writer.put("after")
            assert received.readline() == b"dropped 50\n"
            assert received.readline() == b"after\n"


def test_an_entry_that_cannot_be_written_costs_its_batch_alone(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    writer = LineWriter(stream, "".join)
    writer.put(5)
    assert writer.flush()
    writer.put("after\n")
    assert writer.flush()
    assert (stream.getvalue(), writer.lost) == ("after\n", 1)
    assert "TypeError" in capsys.readouterr().err


def test_a_reader_that_has_gone_away() -> None:
    reader, writer, stream = pipe_writer()
    os.close(reader)
    writer.put("one")
    writer.put("two")
    assert writer.flush()
    assert writer.lost == 2
    with pytest.raises(BrokenPipeError), stream:
        stream.write("x")


def test_an_output_that_must_not_be_waited_for_is_waited_for() -> None:
    reader, writer, stream = pipe_writer()
    os.set_blocking(stream.fileno(), False)
    lines = [f"{number}" * 2000 for number in range(200)]
    with stream, os.fdopen(reader, "rb") as received:
        for line in lines:
            writer.put(line)
        writer.hurry()
        assert [received.readline().decode() for _ in lines] == [f"{line}\n" for line in lines]


def test_a_fork_writes_nothing_twice_and_loses_nothing() -> None:
    reader, writer, stream = pipe_writer()
    with stream, os.fdopen(reader, "rb") as received:
        writer.put("parent")
        pid = os.fork()
        if pid == 0:
            try:
                writer.put("child")
                os._exit(0 if writer.flush() else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        writer.put("end")
        assert [received.readline() for _ in range(3)] == [b"parent\n", b"child\n", b"end\n"]


SCRIPT = """
import logging, os, sys
from tusd_py.observability import logs
from tusd_py.observability.line_writer import LineWriter
logs.configure("text", verbose=True)
writer = LineWriter(sys.stdout, "".join)
logs.divert(writer)
for number in range(1000):
    writer.put(f"{number}\\n")
logging.getLogger("tusd_py").error("between")
writer.put("last\\n")
"""


@pytest.mark.parametrize("end", ["", "logs.flush(); os._exit(0)"])
def test_what_is_queued_is_written_at_exit(end: str) -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT + end], capture_output=True, text=True, timeout=60, check=True)
    lines = found.stdout.splitlines()
    assert lines[:1000] == [str(number) for number in range(1000)]
    assert lines[1000].endswith("level=ERROR event=between")
    assert lines[1001:] == ["last"]
    assert found.stderr == ""


def test_an_output_that_is_closed_is_no_reason_to_crash() -> None:
    script = SCRIPT + "writer.flush(); print('alive', file=sys.stderr)"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        found = subprocess.run([sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writer)
    assert found.stderr == "alive\n"
    assert found.returncode == 0


def test_other_records_are_in_order_with_the_lines() -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("tusd_py").level, logging.raiseExceptions
    stream = io.StringIO()
    try:
        logs.configure("text", verbose=True, stream=stream)
        writer = LineWriter(stream, "".join)
        logs.divert(writer)
        for number in range(20):
            writer.put(f"{number}\n")
            logging.getLogger("tusd_py").info("record %s", number)
        logs.flush()
        logs.divert(None)
        logging.getLogger("tusd_py").info("direct")
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        logging.getLogger("tusd_py").setLevel(before[2])
        logging.raiseExceptions = before[3]
    lines = stream.getvalue().splitlines()
    assert [line.rpartition(" ")[2].removeprefix("event=").strip('"') for line in lines] == [
        str(number) for number in range(20) for _ in range(2)
    ] + ["direct"]


def test_a_flush_waits_for_lines_that_are_queued_no_more_and_not_written_yet() -> None:
    """Such as those that come while the thread goes to sleep: a process that ended then would lose its last words."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            if "late" in text:
                begun.set()
                go_on.wait(30)
            return super().write(text)

    class Late(LineWriter):
        def __setattr__(self, name: str, value: object) -> None:
            falls_asleep = name == "_idle" and value is True and getattr(self, "_idle", True) is False
            super().__setattr__(name, value)
            if falls_asleep and not begun.is_set():
                self._queue.append("late\n")

    stream = Slow()
    writer = Late(stream, "".join)
    writer.put("first\n")
    assert begun.wait(30)
    assert not writer.flush(0.01)
    go_on.set()
    assert writer.flush() and stream.getvalue() == "first\nlate\n"
