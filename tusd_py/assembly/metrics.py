"""Metrics for applications that mount uploads: an observer to hand to `create_app`, and a page to mount."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp

from tusd_py.asgi.metrics import MetricsPage
from tusd_py.observability.cells import Cells
from tusd_py.observability.exposition import CONTENT_TYPE, Exposition
from tusd_py.observability.metrics import Metrics
from tusd_py.observability.readings import Readings
from tusd_py.ports.observer import Observer
from tusd_py.ports.readings import Reading

__all__ = ["HostMetrics", "create_metrics"]


@dataclass(frozen=True, slots=True)
class HostMetrics:
    """What one process counts: `observer` is for `create_app(observer=...)`, `page` is to be mounted."""

    observer: Observer
    page: ASGIApp
    _readings: Readings

    def add_gauge(
        self, name: str, text: str, read: Callable[[], float | Mapping[str, float]], label: str | None = None
    ) -> None:
        """Show what `read` tells on the event loop, at once: a number, or numbers by the value of `label`."""
        self._readings.add(Reading(name=name, help=text, read=read, label=label))


def create_metrics() -> HostMetrics:
    """Metrics of uploads under tusd's names. Each process of a host counts for itself."""
    cells, readings = Cells(), Readings()
    return HostMetrics(Metrics(cells), MetricsPage(Exposition(cells, readings).scrape, CONTENT_TYPE), readings)
