"""`export`: contents to files of their own, or tusd's files back to where tusd has them (`restoring`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from tusd_py_cas.commands.finding import NOBODY, find, sound
from tusd_py_cas.commands.names import safe_parts
from tusd_py_cas.commands.options import AsJson, Config, Owner, UploadDir, find_upload_dir, opened_below, text_argument
from tusd_py_cas.commands.outcomes import Misuse
from tusd_py_cas.commands.restoring import restore_uploads
from tusd_py_cas.commands.unpacking import Export
from tusd_py_cas.model import IndexDamaged, Version

__all__ = ["export"]


def export(
    ctx: typer.Context,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WHAT DEST",
            help="What (an upload's id, OBJECT or OBJECT@VERSION) and where to; with --all only where to; with --restore ids.",
            show_default=False,
        ),
    ] = None,
    upload_dir: UploadDir = None,
    config: Config = None,
    owner: Owner = None,
    all_: Annotated[bool, typer.Option("--all", help="Export the latest version of each object into a directory.")] = False,
    versions: Annotated[bool, typer.Option("--versions", help="With --all: every version.")] = False,
    metadata: Annotated[bool, typer.Option("--metadata", help="Write what is known of each beside it, as JSON.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Write uploads' own files again where they are gone: all, or those named by id.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write contents to files."""
    given = [text_argument(text) if restore else text for text in arguments or ()]
    _check(given, all_=all_, restore=restore, versions=versions, others=bool(owner is not None or metadata or force))
    root = find_upload_dir(ctx, upload_dir, config)
    with opened_below(root) as repository:
        if restore:
            restore_uploads(repository, root, given, as_json=as_json)
            return
        work = Export(repository, metadata=metadata, force=force, as_json=as_json)
        if all_:
            damaged: list[IndexDamaged] = []
            all_versions = sound(repository.index.versions(), damaged)
            found = (one for one in all_versions if owner is None or (one.owner or NOBODY) == owner)
            work.run(given[0], found, damaged, every=versions)
        else:
            version = find(repository.index, given[0], owner)
            work.run_one(*_place(given[1], version), version)


def _check(given: Sequence[str], *, all_: bool, restore: bool, versions: bool, others: bool) -> None:
    if restore and (all_ or versions or others):
        raise Misuse("--restore goes with no other option than --upload-dir, --config and --json")
    if versions and not all_:
        raise Misuse("--versions goes with --all only")
    if all_ and len(given) != 1:
        raise Misuse("--all wants one argument, the directory to export into")
    if not (all_ or restore) and len(given) != 2:
        raise Misuse("expected what to export and where to; or --all and a directory; or --restore")


def _place(destination: str, version: Version) -> tuple[str, bytes]:
    """Directory and name of the file that is asked for; in a directory it has the last part of the object's name."""
    if os.path.isdir(destination):
        return destination, safe_parts(version, numbered=False)[-1].encode()
    directory, name = os.path.split(destination)
    if not name:
        raise Misuse(f"there is no directory {destination!r}")
    return directory or ".", os.fsencode(name)
