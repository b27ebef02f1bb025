"""What happens to the bodies of answers."""

from __future__ import annotations

from tusd_py.doctor.bodies import within_limit
from tusd_py.doctor.patient import Patient, target, told

__all__ = ["download", "events"]

_SIZE = 1 << 20


def download(patient: Patient) -> None:
    """A finished upload is the same on its way back. Compressible bytes: whoever compresses is found out."""
    data = b"tusd-py doctor. " * (within_limit(patient, _SIZE) // 16)
    url = patient.create(len(data))
    if patient.patch(url, 0, data).status != 204:
        return  # told elsewhere
    answer = patient.request("GET", url, ("Accept-Encoding", "gzip"), tus=False)
    if answer.status in (401, 403, 404, 405):
        patient.note("downloads", f"the server gives no downloads: {told(answer)}")
    elif answer.header("content-encoding") is not None or answer.header("content-length") != str(len(data)):
        patient.problem("downloads", "a download loses its length, for it is compressed on the way: clients can't resume it")
    elif answer.body != data:
        patient.problem("downloads", f"a download of {len(data)} bytes comes back changed")
    else:
        _ranges(patient, url, data)


def _ranges(patient: Patient, url: str, data: bytes) -> None:
    answer = patient.request("GET", url, ("Range", "bytes=1000-1999"), tus=False)
    if answer.status == 206 and answer.body == data[1000:2000]:
        patient.ok("downloads", "downloads come unchanged, and in parts where asked")
    else:
        patient.problem("downloads", f"a part of a download is answered with {answer.status}: clients can't resume it")


def events(patient: Patient) -> None:
    """If the server tells the progress of an upload as a stream of events: the first comes at once."""
    url = patient.create(10)
    stream = f"{patient.url}.events/{url.removeprefix(patient.url)}"
    with patient.open() as exchange:
        exchange.send_head("GET", target(stream), patient.headers(("Accept", "text/event-stream"), tus=False))
        exchange.end()
        piece = exchange.first_piece(patient.options.timeout)
        head = exchange.head
    if head is not None and not (head.header("content-type") or "").startswith("text/event-stream"):
        patient.note("events", "the server has no stream of events for uploads, or not for us")
    elif piece:
        patient.ok("events", "events come as they happen")
    else:
        patient.problem("events", "nothing comes of a stream of events: something in between keeps answers back")
