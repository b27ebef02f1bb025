"""The order of the examinations. Each looks at one thing; one that can't be finished says so, and the others go on."""

from __future__ import annotations

from collections.abc import Callable

from tusd_py.doctor import bodies, describing, discovery, http2_bodies, reading
from tusd_py.doctor.findings import ADVICE, Report
from tusd_py.doctor.patient import Options, Patient

__all__ = ["examine"]

Examination = Callable[[Patient], None]

_BOTH = frozenset({"PATCH", "offsets"})
_PATCH = frozenset({"PATCH"})
_NOTHING = frozenset[str]()

# Subject, what looks at it, and what has to work for that.
_EXAMINATIONS: tuple[tuple[str, Examination, frozenset[str]], ...] = (
    ("cors", discovery.cors, _NOTHING),
    ("response headers", describing.describe, _NOTHING),
    ("methods", describing.methods, _NOTHING),
    ("caching", describing.caching, _BOTH),
    ("body size", bodies.body_size, _PATCH),  # before those that send larger bodies
    ("chunked", bodies.chunked, _PATCH),
    ("expect", bodies.expect, _PATCH),
    ("buffering", bodies.buffering, _BOTH),
    ("timeouts", bodies.slow, _PATCH),
    ("early answers", bodies.early_refusal, _PATCH),
    ("downloads", reading.download, _PATCH),
    ("events", reading.events, _NOTHING),
    ("http2", http2_bodies.http2, _BOTH),
)


def examine(options: Options, tell: Callable[[str], None]) -> Report:
    """Look at everything; what was made for it is removed at the end. Raises `Unreachable`.

    `tell` hears the subject of each examination before it begins. Takes about ten seconds, and longer if `options.pause` is.
    """
    patient = Patient(options)
    try:
        tell("the server")
        discovery.reach(patient)
        if discovery.creation(patient):
            for subject, look, needed in _EXAMINATIONS:
                tell(subject)
                if without := needed & patient.missing:
                    patient.note(subject, f"not examined: that takes {' and '.join(sorted(without))}")
                else:
                    _look(patient, subject, look)
    finally:
        left = patient.remove_uploads()
    if left:
        patient.note("cleaning up", f"{len(left)} uploads of this examination could not be removed")
    return Report(patient.url, tuple(patient.findings), left)


def _look(patient: Patient, subject: str, look: Examination) -> None:
    before = len(patient.findings)
    try:
        look(patient)
    except OSError as error:  # `NoAnswer` among them
        if len(patient.findings) == before:
            patient.problem(subject, f"could not be examined: {error}", subject if subject in ADVICE else "request headers")
