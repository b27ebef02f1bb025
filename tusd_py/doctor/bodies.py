"""What happens to the bodies of requests on their way: held back, refused for their size, cut for their slowness."""

from __future__ import annotations

import time
from contextlib import suppress

from tusd_py.doctor.http1 import Answer, Exchange, NoAnswer
from tusd_py.doctor.patient import OFFSET_STREAM, Patient, target, told

__all__ = ["body_size", "buffering", "chunked", "early_refusal", "expect", "sent_slowly", "slow", "until_survived"]

KIB, MIB = 1024, 1024 * 1024

# What is sent before the client goes: more than all buffers that pass data on as it comes, and 1.5 s at the default rate.
SENT = 3 * MIB
_STEP = 64 * KIB

# As much of that may be under way when it goes: half a megabyte in sockets and in proxies that do pass on.
ENOUGH = 0.8
NOTHING = 0.1

# How long what was sent may take to show: clients ask again after a second or so.
_PATIENCE = 3.0


def _fields(offset: int, length: int) -> tuple[tuple[str, str], ...]:
    return ("Upload-Offset", str(offset)), ("Content-Type", OFFSET_STREAM), ("Content-Length", str(length))


def within_limit(patient: Patient, length: int) -> int:
    return length if patient.limit is None else min(length, patient.limit)


def begin(patient: Patient, url: str, offset: int, length: int, *more: tuple[str, str]) -> Exchange:
    exchange = patient.open()
    exchange.send_head("PATCH", target(url), patient.headers(*_fields(offset, length), *more))
    return exchange


def sent_slowly(patient: Patient, exchange: Exchange, total: int) -> int:
    """Send at the rate of the options until an answer comes; how much was sent."""
    begun = time.monotonic()
    for sent in range(0, total, _STEP):
        exchange.send(b"\x5a" * min(_STEP, total - sent))
        ahead = (sent + _STEP) / patient.options.rate - (time.monotonic() - begun)
        if ahead > 0 and exchange.early(ahead) is not None:
            return sent + _STEP
    return total


def until_survived(patient: Patient, url: str, wanted: int) -> int:
    """The offset once it is as large as that, or after a while."""
    deadline = time.monotonic() + _PATIENCE
    while (offset := patient.offset(url) or 0) < wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    return offset


def buffering(patient: Patient) -> None:
    """A client that goes in mid-upload, as on a train: what it has sent should be there when it comes back."""
    length = within_limit(patient, 64 * MIB)
    url = patient.create(length)
    with begin(patient, url, 0, length) as exchange:
        sent = min(SENT, length * 3 // 4)
        if sent_slowly(patient, exchange, sent) < sent:
            patient.problem("buffering", f"PATCH is answered in mid-body: {told(exchange.answer())}")
            return
        exchange.cut()
    judge_survival(patient, "buffering", "", sent, until_survived(patient, url, int(ENOUGH * sent)))


def judge_survival(patient: Patient, subject: str, how: str, sent: int, survived: int) -> None:
    sentence = f"{survived} of {sent} bytes of an upload{how} that broke off have survived"
    if survived >= ENOUGH * sent:
        patient.ok(subject, sentence)
    elif survived > NOTHING * sent:
        patient.note(subject, f"{sentence}: something in between holds back more than it needs to, or the line is slow")
    else:
        patient.problem(subject, f"{sentence}: something in between keeps bodies back until they are complete", "buffering")


def slow(patient: Patient) -> None:
    """A client that pauses, for as long as the options say."""
    url = patient.create(10)
    with begin(patient, url, 0, 10) as exchange:
        exchange.send(b"hello")
        early = exchange.early(patient.options.pause)
        if early is None:
            exchange.send(b"world")
            exchange.end()
        answer = exchange.answer() if early is None else early
    if answer.status == 204:
        patient.ok("timeouts", f"a client may pause for {patient.options.pause:g} s in mid-body")
    else:
        patient.problem("timeouts", f"a client that pauses for {patient.options.pause:g} s is answered with {told(answer)}")


def body_size(patient: Patient) -> None:
    """The largest body that is accepted. It is only announced, not sent: who refuses it does so by its length."""
    largest = patient.options.largest
    try:
        url = patient.create(largest)
    except NoAnswer:
        largest = 128 * MIB
        url = patient.create(largest)
    refused = _refusal(patient, url, largest)
    if refused is None:
        patient.ok("body size", f"a PATCH of {_shown(largest)} is accepted")
        return
    low, high = 0, largest
    while high - low > max(1024, high // 100):
        middle = (low + high) // 2
        again = _refusal(patient, url, middle)
        low, high = (middle, high) if again is None else (low, middle)
    patient.limit = low
    who = "the server" if refused.header("tus-resumable") else "something in front of the server"
    patient.problem("body size", f"{who} refuses a PATCH of more than about {_shown(low)} with {told(refused)}")


def _refusal(patient: Patient, url: str, length: int) -> Answer | None:
    """What is said to a body of that length; None if it may come."""
    with begin(patient, url, 0, length, ("Expect", "100-continue")) as exchange:
        said = exchange.continued(1.0)
        if said is False:  # nobody cares for Expect: see what a first byte does
            exchange.send(b"\x5a")
            return exchange.early(0.5)
        return None if said is True else patient.seen(said)


def _shown(size: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", MIB), ("KiB", KIB)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def expect(patient: Patient) -> None:
    url = patient.create(5)
    with begin(patient, url, 0, 5, ("Expect", "100-continue")) as exchange:
        said = exchange.continued(2.0)
        if said is True or said is False:
            exchange.send(b"hello")
            exchange.end()
            answer = exchange.answer()
        else:
            answer = said
    if answer.status != 204:
        patient.problem("expect", f"a PATCH with Expect: 100-continue is answered with {told(answer)}", "request headers")
    elif said is False:
        patient.note("expect", "100 Continue does not come: clients that ask for it wait a second before they send")
    else:
        patient.ok("expect", "100 Continue comes before the body")


def chunked(patient: Patient) -> None:
    """A body whose length is not known in advance, as browsers stream it."""
    url = patient.create(10)
    with patient.open() as exchange:
        fields = (("Upload-Offset", "0"), ("Content-Type", OFFSET_STREAM), ("Transfer-Encoding", "chunked"))
        exchange.send_head("PATCH", target(url), patient.headers(*fields))
        exchange.send(b"hello")
        exchange.send(b"world")
        exchange.end()
        answer = exchange.answer()
    if answer.status == 204 and answer.header("upload-offset") in ("10", None):
        patient.ok("chunked", "a PATCH without Content-Length passes")
    else:
        patient.problem("chunked", f"a PATCH without Content-Length is answered with {told(answer)}")


def early_refusal(patient: Patient) -> None:
    """A PATCH that can't succeed is refused before its body is sent, and the client hears why."""
    length = within_limit(patient, 64 * MIB)
    url = patient.create(length)
    try:
        with begin(patient, url, 5, length) as exchange:
            with suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(0, min(8 * MIB, length - _STEP), _STEP):
                    exchange.send(bytes(_STEP))
                    if exchange.early(0.001) is not None:
                        break
            answer = exchange.head or exchange.answer()
    except NoAnswer as error:
        patient.note("early answers", f"a refusal does not reach a client that is still sending: {error}")
        return
    if answer.status == 409:
        patient.ok("early answers", "a refusal reaches a client that is still sending")
    else:
        patient.problem("early answers", f"a PATCH at the wrong offset is answered with {told(answer)}", "request headers")
