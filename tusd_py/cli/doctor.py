"""`tusd-py doctor URL`: what do the layers between clients and the server do to uploads?

Exit statuses: 0 all is well, 1 problems were found, 2 there is no server to examine, or the command line can't be understood.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from tusd_py.doctor import Level, Options, Report, Unreachable, examine

__all__ = ["main"]

UNREACHABLE = 2

_MARKS = {Level.OK: "ok     ", Level.NOTE: "note   ", Level.PROBLEM: "PROBLEM"}


def main(arguments: Sequence[str]) -> int:
    """Examine the server at the given address and print what was found. Returns the exit status."""
    given = _parser().parse_args(arguments)
    try:
        options = Options(
            url=given.url,
            headers=tuple(_header(text) for text in given.header),
            insecure=given.insecure,
            http2=given.http2,
            timeout=given.timeout,
            pause=given.pause,
        )
        report = examine(options, _tell)
    except (Unreachable, ValueError) as error:
        _clear()
        print(f"tusd-py doctor: {error}", file=sys.stderr)
        return UNREACHABLE
    _clear()
    print(json.dumps(_as_json(report), ensure_ascii=False, indent=2) if given.json else "\n".join(_lines(report)))
    return report.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tusd-py doctor", description="Find out what proxies do to uploads.", add_help=True)
    parser.add_argument("url", metavar="URL", help="where clients create uploads, such as https://uploads.example.org/files/")
    parser.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="send this, too; may be repeated"
    )
    parser.add_argument("--insecure", action="store_true", help="do not check the certificate")
    parser.add_argument("--http2", action="store_true", help="look at HTTP/2, too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pause", type=_seconds, default=3.0, metavar="SECONDS", help="let a client pause for so long (3)")
    parser.add_argument("--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="wait so long for an answer (10)")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600 seconds")
    return value


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"{text!r} is no header: expected one such as 'Authorization: Bearer abc'")
    return name.strip(), value.strip()


def _tell(subject: str) -> None:
    """What is being looked at, on one line that is written over: only for somebody who watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[Klooking at {subject} ...", end="", file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _as_json(report: Report) -> dict[str, object]:
    return {**asdict(report), "status": report.status}


def _lines(report: Report) -> list[str]:
    lines = []
    for finding in report.findings:
        lines.append(f"{_MARKS[finding.level]} {finding.subject}: {finding.sentence}")
        lines += [f"          set in {remedy}" for remedy in finding.remedies]
    lines += [f"        left behind: {url}" for url in report.left]
    problems = sum(finding.level is Level.PROBLEM for finding in report.findings)
    lines.append(f"{problems} problem{'s' * (problems != 1)} found at {report.url}")
    return lines
