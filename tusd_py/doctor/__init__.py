"""Looks at a tus server from where its clients are, and says what the layers in between do to uploads.

A client of its own, h11 and h2 on blocking sockets: what is wrong shows in mid-request, where HTTP libraries let nobody look.
"""

from __future__ import annotations

from tusd_py.doctor.examination import examine
from tusd_py.doctor.findings import Finding, Level, Report
from tusd_py.doctor.patient import Options, Unreachable

__all__ = ["Finding", "Level", "Options", "Report", "Unreachable", "examine"]
