"""Uploads over HTTP/2: as fast as over HTTP/1.1, and as little lost when they break off."""

from __future__ import annotations

import time

from tusd_py.doctor.bodies import ENOUGH, MIB, SENT, judge_survival, until_survived, within_limit
from tusd_py.doctor.http1 import connect
from tusd_py.doctor.http2 import NotSpoken, Stream
from tusd_py.doctor.patient import OFFSET_STREAM, Patient, target, told

__all__ = ["http2"]

_MEASURED = 8 * MIB

# HTTP/2 that takes so many times as long has a window that is too small for the line.
_SLOW = 3.0

_PIECE = 1 << 16


def http2(patient: Patient) -> None:
    if not patient.options.http2:
        return
    if patient.base.scheme != "https":
        patient.note("http2", "not examined: clients speak HTTP/2 over https only")
        return
    try:
        if _speed(patient):
            _survival(patient)
    except NotSpoken as reason:
        patient.note("http2", f"not examined: {reason}")


def _begin(patient: Patient, url: str, length: int) -> Stream:
    timeout = patient.options.timeout
    stream = Stream(connect(patient.base, context=patient.context("h2", "http/1.1"), timeout=timeout), timeout)
    fields = (("Upload-Offset", "0"), ("Content-Type", OFFSET_STREAM), ("Content-Length", str(length)))
    stream.send_head("PATCH", target(url), patient.headers(*fields))
    return stream


def _speed(patient: Patient) -> bool:
    data = bytes(within_limit(patient, _MEASURED))
    url = patient.create(len(data))
    begun = time.monotonic()
    patient.patch(url, 0, data)
    first = time.monotonic() - begun
    url = patient.create(len(data))
    begun = time.monotonic()
    with _begin(patient, url, len(data)) as stream:
        if stream.send(data):
            stream.end()
        answer = stream.answer()
    second = time.monotonic() - begun
    if answer.status != 204:
        patient.problem("http2", f"a PATCH over HTTP/2 is answered with {told(answer)}", "methods")
        return False
    rates = f"{len(data) / MIB / first:.1f} MiB/s over HTTP/1.1, {len(data) / MIB / second:.1f} MiB/s over HTTP/2"
    if second > _SLOW * first and second - first > 1.0:
        patient.problem("http2", f"{rates}: the window for uploads over HTTP/2 is too small for this line")
    else:
        patient.ok("http2", rates)
    return True


def _survival(patient: Patient) -> None:
    length = within_limit(patient, 64 * MIB)
    url = patient.create(length)
    total = min(SENT, length * 3 // 4)
    with _begin(patient, url, length) as stream:
        begun = time.monotonic()
        for sent in range(0, total, _PIECE):
            if not stream.send(b"\x5a" * _PIECE):
                patient.problem("http2", f"PATCH is answered in mid-body: {told(stream.answer())}", "buffering")
                return
            time.sleep(max(0.0, (sent + _PIECE) / patient.options.rate - (time.monotonic() - begun)))
    judge_survival(patient, "http2 buffering", " over HTTP/2", total, until_survived(patient, url, int(ENOUGH * total)))
