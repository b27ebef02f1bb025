"""What comes through of heads: fields of requests and answers, methods, and offsets that are those of now."""

from __future__ import annotations

from tusd_py.doctor.discovery import METADATA
from tusd_py.doctor.http1 import Answer
from tusd_py.doctor.patient import OFFSET_STREAM, Patient, told

__all__ = ["caching", "describe", "methods"]

_DESCRIBED = ("upload-offset", "upload-length", "tus-resumable")


def describe(patient: Patient) -> None:
    answer = patient.head(patient.uploads[0])
    if missing := [name for name in _DESCRIBED if answer.header(name) is None]:
        patient.missing.add("offsets")
        if _like_get(answer):
            patient.problem("caching", "HEAD is answered as a GET would be: a cache asks the server by GET")
            return
        patient.problem("response headers", f"HEAD does not show {', '.join(name.title() for name in missing)}")
    elif "no-store" not in (answer.header("cache-control") or ""):
        patient.problem("response headers", "HEAD comes without Cache-Control: no-store, so caches may keep old offsets")
    elif answer.header("upload-metadata") is None:
        patient.problem("request headers", "Upload-Metadata does not come back: taken out of the request or of the answer")
    elif answer.header("upload-metadata") != METADATA:
        patient.problem("request headers", f"Upload-Metadata comes back changed: {answer.header('upload-metadata')}")
    else:
        patient.ok("headers", "fields of requests and answers pass unchanged")


def _like_get(answer: Answer) -> bool:
    return answer.header("content-disposition") is not None or answer.header("x-cache") is not None or answer.status == 423


def methods(patient: Patient) -> None:
    url = patient.create(5)
    answer = patient.patch(url, 0, b"he")
    if answer.status != 204:
        patient.missing.add("PATCH")
        patient.problem("methods", f"PATCH is answered with {told(answer)}")
    else:
        patient.ok("methods", "PATCH passes")
    _override(patient, url, 2 if answer.status == 204 else 0)
    if "termination" in patient.extensions:
        _delete(patient, patient.create(5))


def _override(patient: Patient, url: str, offset: int) -> None:
    """Clients behind a firewall that knows GET and POST only."""
    fields = ("Upload-Offset", str(offset)), ("Content-Type", OFFSET_STREAM), ("X-HTTP-Method-Override", "PATCH")
    answer = patient.request("POST", url, *fields, body=b"l")
    if answer.status == 204:
        patient.ok("method override", "POST with X-HTTP-Method-Override: PATCH passes")
    else:
        patient.problem(
            "method override", f"POST with X-HTTP-Method-Override: PATCH is answered with {told(answer)}", "request headers"
        )


def _delete(patient: Patient, url: str) -> None:
    answer = patient.request("DELETE", url)
    if answer.status == 204:
        patient.ok("delete", "DELETE passes")
    else:
        patient.problem("delete", f"DELETE is answered with {told(answer)}", "methods")


def caching(patient: Patient) -> None:
    """Offsets before and after a PATCH, each asked for twice: a cache would have the first."""
    url = patient.create(10)
    before = [patient.offset(url), patient.offset(url)]
    patient.patch(url, 0, b"hello")
    after = [patient.offset(url), patient.offset(url)]
    if before == [0, 0] and after == [5, 5]:
        patient.ok("caching", "HEAD shows the offset of now")
    else:
        patient.problem("caching", f"HEAD shows an old offset: {after[-1]} after 5 bytes were confirmed. A cache keeps it")
