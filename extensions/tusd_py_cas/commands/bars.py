"""Progress on a terminal; silence anywhere else, so that logs and pipes hold nothing but results."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Progress", "followed", "progress"]


class Progress(Protocol):
    """How far something has come, in bytes or in things; whether anybody sees it."""

    shown: bool

    def advance(self, amount: int) -> None: ...

    def expect(self, total: int) -> None: ...


class _Silent:
    shown = False

    def advance(self, amount: int) -> None:
        pass

    def expect(self, total: int) -> None:
        pass


def followed(pieces: Iterable[bytes], bar: Progress) -> Iterator[bytes]:
    """The same pieces; the bar is told of each as soon as the next one is wanted."""
    for piece in pieces:
        yield piece
        bar.advance(len(piece))


@contextmanager
def progress(doing: str, *, silent: bool, total: int | None = None, of_bytes: bool = True) -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal and nobody wants `silent`. Any thread may advance it."""
    if silent or not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    amounts = (DownloadColumn(binary_units=True), TransferSpeedColumn()) if of_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *amounts, TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(doing, total=total)

        class Bar:
            shown = True

            def advance(self, amount: int) -> None:
                bars.advance(task, amount)

            def expect(self, total: int) -> None:
                bars.update(task, total=total)

        yield Bar()
