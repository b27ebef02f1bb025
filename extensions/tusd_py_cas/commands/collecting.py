"""`gc`: free what no version refers to, or say what that would be."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from tusd_py_cas.commands.bars import progress
from tusd_py_cas.commands.options import AsJson, Config, UploadDir, opened, value_of
from tusd_py_cas.commands.output import tell
from tusd_py_cas.commands.texts import parse_duration, show_size

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
    from tusd_py_cas.keeping.collecting import collect

    seconds = value_of(parse_duration, grace, "--grace")
    with opened(ctx, upload_dir, config) as repository, progress("collecting", silent=as_json, of_bytes=False) as _:
        done = collect(repository, grace=seconds, now=time.time(), dry_run=dry_run)
    if as_json:
        tell(
            {
                "dry_run": dry_run,
                "grace_seconds": seconds,
                "manifests": done.manifests,
                "leaves": done.leaves,
                "chunks": done.chunks,
                "orphans": done.orphans,
                "freed_bytes": done.freed_bytes,
            }
        )
        return
    would = "would be " if dry_run else ""
    tell(
        f"{show_size(done.freed_bytes)} {would}freed: {done.chunks} chunks, {done.orphans} files that nothing knew, "
        f"{done.manifests} manifests, {done.leaves} leaves"
    )
