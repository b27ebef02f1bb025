"""`stats`: what is stored, and what that saves."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tusd_py_cas.commands.options import AsJson, Config, UploadDir, opened
from tusd_py_cas.commands.output import print_document, print_line
from tusd_py_cas.commands.texts import counted, share, show_size
from tusd_py_cas.index import Totals
from tusd_py_cas.repository import Repository

__all__ = ["Bin", "stats"]

Bin = tuple[int, int, int]
"""Chunks from this size up to below that one, and how many."""


def stats(
    ctx: typer.Context,
    upload_dir: UploadDir = None,
    config: Config = None,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw the sizes of chunks into this file.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is stored, what deduplication and compression save, and how large chunks are."""
    with opened(ctx, upload_dir, config) as repository:
        if plot is not None:
            from tusd_py_cas.commands.plot import check_plotting

            check_plotting()
        totals, bins = repository.index.totals(), _bins(repository.index.chunk_sizes())
        if as_json:
            print_document(_document(repository, totals, bins))
        else:
            print_line(_summary(repository, totals))
            if bins:
                print_line(_histogram(bins))
        if plot is not None:
            from tusd_py_cas.commands.plot import draw

            draw(plot, bins)


def _bins(counts: Mapping[int, int]) -> list[Bin]:
    """Without gaps, so that the shape is seen."""
    if not counts:
        return []
    return [(2**power, 2 ** (power + 1), counts.get(power, 0)) for power in range(min(counts), max(counts) + 1)]


def _document(repository: Repository, totals: Totals, bins: list[Bin]) -> dict[str, Any]:
    parameters = repository.parameters
    return {
        "repository": repository.path,
        "id": repository.id,
        "chunk_size": {"min": parameters.min_size, "average": parameters.avg_size, "max": parameters.max_size},
        "objects": totals.objects,
        "versions": totals.versions,
        "manifests": totals.manifests,
        "chunks": totals.chunks,
        "logical_bytes": totals.logical,
        "unique_bytes": totals.unique,
        "stored_bytes": totals.stored,
        "saved_by_deduplication_bytes": totals.logical - totals.unique,
        "saved_by_deduplication_percent": share(totals.logical - totals.unique, totals.logical),
        "saved_by_compression_bytes": totals.unique - totals.stored,
        "saved_by_compression_percent": share(totals.unique - totals.stored, totals.unique),
        "average_chunk_bytes": _average(totals),
        "unused_bytes": totals.unused,
        "damaged_chunks": totals.damaged,
        "vanished_versions": totals.vanished,
        "chunk_sizes": [{"from": low, "below": high, "chunks": count} for low, high, count in bins],
    }


def _average(totals: Totals) -> int:
    return round(totals.chunk_bytes / totals.chunks) if totals.chunks else 0


def _summary(repository: Repository, totals: Totals) -> str:
    deduplicated, compressed = totals.logical - totals.unique, totals.unique - totals.stored
    rows = [
        ("repository", repository.path),
        ("objects", f"{totals.objects} in {counted(totals.versions, 'version')}"),
        ("logical", show_size(totals.logical)),
        ("unique", f"{show_size(totals.unique)} ({_saving(deduplicated, totals.logical)} by deduplication)"),
        ("stored", f"{show_size(totals.stored)} ({_saving(compressed, totals.unique)} by compression)"),
        ("chunks", f"{totals.chunks}, on average {show_size(_average(totals))}"),
        ("unused", f"{show_size(totals.unused)} (see tusd-py cas gc)"),
        ("vanished", f"{counted(totals.vanished, 'version')} whose upload is gone"),
        ("damaged", counted(totals.damaged, "chunk") + (" (see tusd-py cas verify)" if totals.damaged else "")),
    ]
    return "\n".join(f"{name:<11} {value}" for name, value in rows)


def _saving(saved: int, whole: int) -> str:
    """Frames of incompressible chunks are larger than what is in them; that never happens, but a saving may be none."""
    return f"{show_size(max(saved, 0))}, {share(max(saved, 0), whole):.1f} %, saved"


def _histogram(bins: list[Bin]) -> str:
    """Bars of text. Rendered before it is printed, since rich ends the process where nobody reads any more."""
    from rich.bar import Bar
    from rich.console import Console
    from rich.table import Table

    most = max(count for _, _, count in bins)
    table = Table("CHUNKS OF", "", "", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for low, high, count in bins:
        table.add_row(f"{show_size(low)} to {show_size(high)}", str(count), Bar(most, 0, count, width=40))
    console = Console(file=io.StringIO(), width=100, color_system=None, legacy_windows=False)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    encoding = sys.stdout.encoding or "ascii"
    return "\n" + "\n".join(line.rstrip() for line in text.encode(encoding, "replace").decode(encoding).splitlines())
