"""`gc`: free what no version refers to, or say what that would be."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from tusd_py_cas.commands.bars import progress
from tusd_py_cas.commands.options import AsJson, Config, UploadDir, check_user, opened, value_of
from tusd_py_cas.commands.output import tell
from tusd_py_cas.commands.texts import counted, parse_duration, show_size
from tusd_py_cas.keeping.collecting import Collected, collect

__all__ = ["gc"]


def gc(
    ctx: typer.Context,
    upload_dir: UploadDir = None,
    config: Config = None,
    grace: Annotated[str, typer.Option("--grace", help="Leave alone what is younger: a duration such as 90m or 7d.")] = "24h",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Free what no version refers to any more. A server does the same by itself (-cas-gc-interval)."""
    seconds = value_of(parse_duration, grace, "--grace")
    with opened(ctx, upload_dir, config) as repository, progress("collecting", silent=as_json, of_bytes=False) as bar:
        if not dry_run:
            check_user(repository.path)
        done = collect(
            repository, grace=seconds, now=time.time(), dry_run=dry_run, progress=lambda step, more: bar.advance(more)
        )
    if as_json:
        tell({"dry_run": dry_run, "grace_seconds": seconds, **asdict(done)})
    else:
        tell(_sentence(done, dry_run=dry_run))


def _sentence(done: Collected, *, dry_run: bool) -> str:
    what = [
        counted(done.chunks, "chunk"),
        f"{counted(done.orphans, 'file')} that the index does not know",
        counted(done.manifests, "manifest"),
        counted(done.leaves, "leaf", "leaves"),
    ]
    if not dry_run:
        what.append(counted(done.temporaries, "temporary file"))
    return f"{show_size(done.freed_bytes)} {'would be ' if dry_run else ''}freed: {', '.join(what)}"
