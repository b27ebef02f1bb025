"""`cat`: bytes to standard output, none of which has not been verified."""

from __future__ import annotations

from typing import Annotated

import typer

from tusd_py_cas.commands.finding import find
from tusd_py_cas.commands.options import Config, Owner, UploadDir, opened, value_of
from tusd_py_cas.commands.outcomes import Failed
from tusd_py_cas.commands.output import write_bytes
from tusd_py_cas.commands.texts import clip_range, parse_range
from tusd_py_cas.reading import Reader

__all__ = ["What", "cat"]

What = Annotated[
    str,
    typer.Argument(metavar="WHAT", help="An upload's id, OBJECT (the latest version) or OBJECT@VERSION.", show_default=False),
]


def cat(
    ctx: typer.Context,
    what: What,
    upload_dir: UploadDir = None,
    config: Config = None,
    owner: Owner = None,
    range_: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="START-END",
            help="Only these bytes, from 0, END included; START- and -COUNT too.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a content to standard output."""
    wanted = (0, None) if range_ is None else value_of(parse_range, range_, "--range")
    with opened(ctx, upload_dir, config) as repository:
        manifest = find(repository.index, what, owner).manifest
        clipped = clip_range(wanted, manifest.size)
        if clipped is None:
            raise Failed(f"the range {range_!r} begins behind the end: there are {manifest.size} bytes")
        for piece in Reader(repository, manifest).iter_bytes(*clipped):
            write_bytes(piece)
