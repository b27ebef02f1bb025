"""tusd's log events: names, levels, fields, their order, and what clients may not do to them."""

from __future__ import annotations

import asyncio
import io
import json
import re
from typing import Literal

import pytest

from tests.observability.support import RecordedCall, tell_small_upload, upload_of
from tusd_py.observability.line_writer import LineWriter
from tusd_py.observability.request_lines import ANSWERED, COMPLETE, CREATED, FINISHED, STARTED, Notes, RequestLines
from tusd_py.observability.request_log import RequestLog
from tusd_py.ports.call import NO_CALL
from tusd_py.protocol.hooks import HookType
from tusd_py.protocol.refusals import HookFailed, MismatchedOffset, Refusal, StorageBroken, UnexpectedEof

TIME = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} "
ID = "0123456789abcdef0123456789abcdef"


class Logged:
    """A request log and what it has written."""

    def __init__(self, form: Literal["text", "json"] = "text", *, verbose: bool = True) -> None:
        self.stream, lines = io.StringIO(), RequestLines(form)
        self.writer = LineWriter(self.stream, lines)
        self.log = RequestLog(self.writer, lines, verbose=verbose)

    @property
    def written(self) -> str:
        assert self.writer.flush()
        return self.stream.getvalue()

    @property
    def lines(self) -> list[str]:
        """Without their times."""
        found = self.written.splitlines()
        assert all(re.match(TIME, line) for line in found)
        return [re.sub(TIME, "", line) for line in found]


def test_a_creation_with_its_bytes() -> None:
    logged = Logged()
    tell_small_upload(logged.log)
    about = 'method=POST path="" requestId=""'
    assert logged.lines == [
        f"level=INFO event=RequestIncoming {about}",
        f"level=INFO event=UploadCreated {about} id={ID} size=4096 url=http://127.0.0.1:8080/files/{ID}",
        f"level=INFO event=ChunkWriteStart {about} id={ID} maxSize=4096 offset=0",
        f"level=INFO event=ChunkWriteComplete {about} id={ID} bytesWritten=4096",
        f"level=INFO event=UploadFinished {about} id={ID} size=4096",
        f'level=INFO event=ResponseOutgoing {about} id={ID} status=201 body=""',
    ]


def test_the_same_as_json() -> None:
    logged = Logged("json")
    tell_small_upload(logged.log, RecordedCall(request_id="r 1"))
    records = [json.loads(line) for line in logged.written.splitlines()]
    assert [list(record) for record in records] == [
        ["time", "level", "msg", "method", "path", "requestId"],
        ["time", "level", "msg", "method", "path", "requestId", "id", "size", "url"],
        ["time", "level", "msg", "method", "path", "requestId", "id", "maxSize", "offset"],
        ["time", "level", "msg", "method", "path", "requestId", "id", "bytesWritten"],
        ["time", "level", "msg", "method", "path", "requestId", "id", "size"],
        ["time", "level", "msg", "method", "path", "requestId", "id", "status", "body"],
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d", record["time"]) for record in records)
    assert {record["requestId"] for record in records} == {"r 1"}
    last = records[-1]
    assert (last["level"], last["msg"], last["status"], last["body"]) == ("INFO", "ResponseOutgoing", 201, "")


def test_a_request_for_an_upload_names_it_after_its_first_line() -> None:
    logged = Logged()
    call = RecordedCall("PATCH", "abc", "r-1")
    logged.log.request_incoming(call)
    logged.log.response_outgoing(call, 409, MismatchedOffset(), 0.1)
    about = "method=PATCH path=abc requestId=r-1"
    assert logged.lines == [
        f"level=INFO event=RequestIncoming {about}",
        f'level=INFO event=ResponseOutgoing {about} id=abc status=409 body="ERR_MISMATCHED_OFFSET: mismatched offset\\n"',
    ]


def test_the_answer_to_head_has_no_body() -> None:
    logged = Logged()
    call = RecordedCall("HEAD", "abc")
    logged.log.request_incoming(call)
    logged.log.response_outgoing(call, 409, MismatchedOffset(), 0.1)
    assert logged.lines[-1].endswith(' id=abc status=409 body=""')


def caused(refusal: Refusal, cause: Exception) -> Refusal:
    refusal.__cause__ = cause
    return refusal


@pytest.mark.parametrize(
    ("refusal", "line"),
    [
        (UnexpectedEof(), 'event=BodyReadError {} error="ERR_UNEXPECTED_EOF: server expected to receive more bytes"'),
        (StorageBroken(), 'event=InternalServerError {} message="the server\'s storage failed"'),
        (caused(HookFailed(), OSError("no such\nhook")), 'event=InternalServerError {} message="no such\\nhook"'),
    ],
)
def test_what_went_wrong_stands_before_the_answer(refusal: Refusal, line: str) -> None:
    logged = Logged()
    call = RecordedCall("PATCH", "abc")
    logged.log.request_incoming(call)
    logged.log.response_outgoing(call, refusal.status, refusal, 0.1)
    assert logged.lines[1] == "level=ERROR " + line.format('method=PATCH path=abc requestId="" id=abc')
    assert len(logged.lines) == 3


def test_what_no_request_has_caused_names_the_upload_alone() -> None:
    logged = Logged()
    logged.log.upload_terminated(NO_CALL, upload_of())
    logged.log.upload_interrupted("abc")
    logged.log.upload_stopped("abc")
    logged.log.upload_finished(NO_CALL, upload_of(5, offset=5))
    assert logged.lines == [
        f"level=INFO event=UploadTerminated id={ID}",
        "level=INFO event=UploadInterrupted id=abc",
        "level=INFO event=HookStopUpload id=abc",
        f"level=INFO event=UploadFinished id={ID} size=5",
    ]


HOOKS = [
    'level=DEBUG event=HookInvocationStart type=pre-create id=""',
    "level=DEBUG event=HookInvocationFinish type=post-finish id=abc",
    'level=ERROR event=HookInvocationError type=post-finish id=abc error="exit status 1\\nno"',
]


@pytest.mark.parametrize(("verbose", "lines"), [(True, HOOKS), (False, HOOKS[2:])])
def test_hooks(verbose: bool, lines: list[str]) -> None:
    logged = Logged(verbose=verbose)
    logged.log.hook_started(HookType.PRE_CREATE, "")
    logged.log.hook_complete(HookType.POST_FINISH, "abc", 0.1)
    logged.log.hook_failed(HookType.POST_FINISH, "abc", 0.1, "exit status 1\nno")
    assert logged.lines == lines


def test_a_termination_by_a_request() -> None:
    logged = Logged()
    call = RecordedCall("DELETE", ID)
    logged.log.request_incoming(call)
    logged.log.upload_terminated(call, upload_of())
    assert logged.lines[-1] == f'level=INFO event=UploadTerminated method=DELETE path={ID} requestId="" id={ID}'


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("nasty", ["a\r\n2024/02/20 level=INFO event=Forged", "\x1b[31m", "a\u2028b\x85c", 'x" y="', "\ud800"])
def test_one_event_is_one_line_whatever_a_client_sends(form: Literal["text", "json"], nasty: str) -> None:
    logged = Logged(form)
    call = RecordedCall(nasty, nasty, nasty)
    tell_small_upload(logged.log, call)
    lines = logged.written.split("\n")
    assert len(lines) == 7 and len(logged.written.splitlines()) == 6
    assert not any("\x1b" in line for line in lines)
    if form == "json":
        assert json.loads(lines[0])["path"] == nasty


def test_requests_at_once_are_kept_apart() -> None:
    logged = Logged()
    first, second = RecordedCall("PATCH", "one"), RecordedCall("PATCH", "two")
    logged.log.request_incoming(first)
    logged.log.request_incoming(second)
    logged.log.response_outgoing(first, 204, None, 0.1)
    logged.log.response_outgoing(second, 204, None, 0.1)
    answered = [line for line in logged.lines if "ResponseOutgoing" in line]
    assert [re.findall("id=(.*) status", line) for line in answered] == [["one"], ["two"]]


def test_a_request_that_takes_long_is_seen_while_it_runs() -> None:
    logged, call = Logged(), RecordedCall("PATCH", "one")
    logged.log.request_incoming(call)
    assert len(logged.lines) == 1
    logged.log.chunk_started(call, upload_of(upload_id="one"), 4096)
    assert [line.split()[1] for line in logged.lines] == ["event=RequestIncoming", "event=ChunkWriteStart"]
    logged.log.chunk_complete(call, upload_of(upload_id="one"), 4096, 1.0)
    logged.log.response_outgoing(call, 204, None, 1.0)
    assert [line.split()[1] for line in logged.lines[2:]] == ["event=ChunkWriteComplete", "event=ResponseOutgoing"]
    assert all("id=one" in line for line in logged.lines[1:])


async def test_what_is_still_to_be_made_into_lines_is_written_by_a_flush() -> None:
    logged = Logged()
    tell_small_upload(logged.log)
    assert len(logged.lines) == 6


async def test_lines_come_by_themselves() -> None:
    logged = Logged()
    tell_small_upload(logged.log)
    while not logged.stream.getvalue():  # noqa: ASYNC110 - a thread writes it
        await asyncio.sleep(0)
    assert logged.stream.getvalue().count("\n") == 6


def test_an_upload_across_two_seconds_has_the_right_times() -> None:
    lines, upload = RequestLines("text"), upload_of(upload_id="one")
    notes = Notes(1_700_000_000_900_000_000, "POST", "", "")
    notes += [
        (CREATED, 1_700_000_000_950_000_000, upload, "/one"),
        (STARTED, 1_700_000_000_960_000_000, 4096, 0),
        (COMPLETE, 1_700_000_001_000_000_000, 4096),
        (FINISHED, 1_700_000_001_500_000_000, 4096),
        (ANSWERED, 1_700_000_001_250_000_000, 201, ""),
    ]
    stamps = [line.split()[1][-9:] for line in lines.request(notes).splitlines()]
    assert stamps == ["20.900000", "20.950000", "20.960000", "21.000000", "21.500000", "21.250000"]


def test_the_time_is_right_across_seconds() -> None:
    lines = RequestLines("text")
    start = 1_700_000_000_000_000_000  # 20 s after a full minute
    moments = [start + later for later in (0, 7_999, 750_000_000, 1_500_000_000, 500_000_000, 39_999_999_999)]
    written = "".join(lines.line(moment, "INFO", "Happened", ()) for moment in moments)
    assert [line.split()[1][-9:] for line in written.splitlines()] == [
        "20.000000", "20.000007", "20.750000", "21.500000", "20.500000", "59.999999",
    ]  # fmt: skip
