"""Whether there is a tus server, what it says of itself, and which addresses it gives to uploads."""

from __future__ import annotations

import base64
from urllib.parse import urljoin, urlsplit

from tusd_py.doctor.http1 import Answer
from tusd_py.doctor.patient import Patient, Unreachable, told

__all__ = ["METADATA", "cors", "creation", "reach"]

METADATA = "filename " + base64.b64encode("tusd-py doctor ü.bin".encode()).decode()

_ANNOUNCED = ("tus-resumable", "tus-version", "tus-extension")

_ORIGIN = "https://tusd-py-doctor.example"
_EXPOSED = ("upload-offset", "upload-length", "location", "tus-resumable")
_ASKED = ("tus-resumable", "upload-length", "upload-offset", "upload-metadata", "content-type")


def reach(patient: Patient) -> None:
    """OPTIONS. Raises `Unreachable`."""
    try:
        answer = patient.request("OPTIONS", patient.options.url, tus=False)
    except OSError as error:
        raise Unreachable(f"{patient.url} can't be reached: {error.strerror or error}") from None
    if 300 <= answer.status < 400:
        where = urljoin(patient.url, answer.header("location") or "")
        raise Unreachable(f"{patient.options.url} redirects to {where}, which uploads do not follow: give clients that address")
    if answer.status not in (200, 204):
        patient.problem("methods", f"OPTIONS is answered with {told(answer)}: browsers ask before they upload")
    elif missing := [name for name in _ANNOUNCED if answer.header(name) is None]:
        names = ", ".join(name.title() for name in missing)
        patient.problem("response headers", f"{names} missing in the answer to OPTIONS: taken out, or no tus server")
    else:
        patient.announced = True
        patient.extensions = frozenset((answer.header("tus-extension") or "").split(","))
        patient.ok("server", f"tus {answer.header('tus-version')} with {answer.header('tus-extension')}")


def creation(patient: Patient) -> bool:
    """POST, and `Location` in its answer; whether there is an upload to go on with. Raises `Unreachable`."""
    try:
        answer = patient.request("POST", patient.options.url, ("Upload-Length", "10"), ("Upload-Metadata", METADATA))
    except OSError as error:
        raise Unreachable(f"{patient.url} does not answer a POST: {error}") from None
    if answer.status in (401, 403) and _is_ours(answer):
        raise Unreachable(f"the server wants to know who asks ({told(answer)}): give --header 'Authorization: ...'")
    if answer.status != 201:
        return _refused(patient, answer)
    location = answer.header("location")
    if location is None:
        patient.problem("response headers", "Location is missing in the answer to POST: clients can't find their upload")
        return False
    url = patient.adopt(location)
    _judge_location(patient, location)
    if patient.head(url).status not in (200, 204):
        patient.problem("prefix", f"the upload is not found where Location says: {told(patient.head(url))}")
        return False
    return True


def _refused(patient: Patient, answer: Answer) -> bool:
    if _is_ours(answer):
        sentence = f"the server refuses to create an upload: {told(answer)}"
        if answer.status not in (400, 412):
            raise Unreachable(sentence)
        patient.problem("request headers", sentence)
        return False
    if not patient.announced:
        raise Unreachable(f"{patient.url} is no tus server: it answers POST with {told(answer)}")
    patient.problem("methods", f"POST is answered with {told(answer)}")
    return False


def _is_ours(answer: Answer) -> bool:
    """Whether a tus server has answered, and not something in front of it."""
    return answer.header("tus-resumable") is not None or answer.body.startswith(b"ERR_")


def _judge_location(patient: Patient, location: str) -> None:
    found, base = urlsplit(location), patient.base
    if not found.netloc:
        patient.ok("location", "is relative, so it fits any address")
    elif found.scheme != base.scheme:
        patient.problem("location", f"begins with {found.scheme}: where clients come by {base.scheme}: {location}")
        return
    elif found.netloc.lower() != base.netloc.rpartition("@")[2].lower():
        patient.problem("location", f"names another host than clients use, {found.netloc} instead of {base.netloc}")
        return
    else:
        patient.ok("location", "names the address that clients use")
    if not urlsplit(urljoin(patient.url, location)).path.startswith(base.path):
        patient.problem("prefix", f"Location leads out of {base.path}: {location}")


def cors(patient: Patient) -> None:
    """What a browser on another site would be told."""
    wanted = ("Access-Control-Request-Method", "PATCH"), ("Access-Control-Request-Headers", ", ".join(_ASKED))
    preflight = patient.request("OPTIONS", patient.options.url, ("Origin", _ORIGIN), *wanted, tus=False)
    answer = patient.request("HEAD", patient.uploads[0], ("Origin", _ORIGIN))
    allowed = [preflight.all("access-control-allow-origin"), answer.all("access-control-allow-origin")]
    if allowed == [[], []]:
        patient.note("cors", "the server lets no browser on another site upload; if it should, see -cors-allow-origin")
    elif any(len(values) != 1 for values in allowed):
        patient.problem("cors", "Access-Control-Allow-Origin is given twice or not always: browsers refuse the answers")
    elif missing := _missing(preflight, "access-control-allow-methods", ("patch", "head", "post")):
        patient.problem("cors", f"browsers are not allowed to use {missing}")
    elif missing := _missing(preflight, "access-control-allow-headers", _ASKED):
        patient.problem("cors", f"browsers are not allowed to send {missing}")
    elif missing := _missing(answer, "access-control-expose-headers", _EXPOSED):
        patient.problem("cors", f"browsers hide {missing} from the client")
    else:
        patient.ok("cors", "browsers on other sites may upload")


def _missing(answer: Answer, name: str, wanted: tuple[str, ...]) -> str:
    given = {element.strip().lower() for element in (answer.header(name) or "").split(",")}
    return "" if "*" in given else ", ".join(element for element in wanted if element not in given)
