"""A pytest plugin: with TUSD_PY_STRICT=1 a skipped test has failed, unless no installation could have made it run.

tests/check.sh sets the variable. What a test needs is installed by tests/setup.sh, so a skip there means that something went
untested.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator

import pytest

STRICT = os.environ.get("TUSD_PY_STRICT") == "1"

# How an excusable reason begins, and when it is excusable.
EXCUSES: dict[str, Callable[[], bool]] = {
    "needs root": lambda: os.geteuid() != 0,
    "root may not": lambda: True,  # mount, in a container
    "the kernel": lambda: True,  # has no ..., refuses ...
    "the request did without": lambda: True,  # a system call that was to fail: nothing was left to test
}


def is_excused(reason: str) -> bool:
    reason = reason.removeprefix("Skipped: ")
    return any(reason.startswith(start) and applies() for start, applies in EXCUSES.items())


def fail_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a report of a skip into one of a failure; an expected failure (xfail) also counts as skipped and is left alone."""
    if not STRICT or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not is_excused(reason):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, which TUSD_PY_STRICT=1 forbids: {reason.removeprefix('Skipped: ')}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_skipped(report)
    return report
