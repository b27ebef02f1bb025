"""`ls` and `versions`: what there is, printed while it is being found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from tusd_py_cas.commands.documents import version_document
from tusd_py_cas.commands.finding import by_object, newer, of_object, sound, tell_damage
from tusd_py_cas.commands.options import AsJson, Config, Owner, UploadDir, opened, text_argument
from tusd_py_cas.commands.output import print_document, print_table
from tusd_py_cas.commands.texts import local_time, show_size, utc_time
from tusd_py_cas.model import IndexDamaged, Version

__all__ = ["ls", "versions"]

_OBJECTS = (("VERSIONS", -8), ("SIZE", -10), ("DATE", 25), ("OWNER", 12), ("OBJECT", 0))
_VERSIONS = (("VERSION", -7), ("SIZE", -10), ("DATE", 25), ("UPLOAD", 32), ("BLAKE3", 64), ("SHA-256", 64))


@dataclass(frozen=True, slots=True)
class Listed:
    """An object: how many versions it has, and the latest of them."""

    versions: int
    latest: Version


def ls(
    ctx: typer.Context,
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="Only objects whose names begin so.", show_default=False)
    ] = "",
    upload_dir: UploadDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List objects: how many versions each has, and size, date and owner of the latest."""
    text_argument(prefix)
    damaged: list[IndexDamaged] = []
    with opened(ctx, upload_dir, config) as repository:
        listed = sound(repository.index.versions(), damaged)
        found = objects(version for version in listed if version.object.startswith(prefix))
        if as_json:
            for one in found:
                print_document(_object_document(one))
        else:
            print_table(_OBJECTS, map(_object_row, found), "no objects")
    tell_damage(damaged)


def versions(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="OBJECT", help="The object's name.", show_default=False)],
    upload_dir: UploadDir = None,
    config: Config = None,
    owner: Owner = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of an object: number, size, date, upload, digests."""
    damaged: list[IndexDamaged] = []
    with opened(ctx, upload_dir, config) as repository:
        found = of_object(repository.index, name, owner, damaged)
        if as_json:
            for version in found:
                print_document(version_document(version))
        else:
            print_table(_VERSIONS, map(_version_row, found), "no versions")
    tell_damage(damaged)


def objects(versions: Iterable[Version]) -> Iterator[Listed]:
    """The objects that these are versions of, which come in the order of the index."""
    for several in by_object(versions):
        listed = Listed(1, next(several))
        for version in several:
            listed = Listed(listed.versions + 1, newer(listed.latest, version))
        yield listed


def _object_document(listed: Listed) -> dict[str, Any]:
    return {
        "object": listed.latest.object,
        "owner": listed.latest.owner,
        "versions": listed.versions,
        "version": listed.latest.number,
        "upload": listed.latest.upload_id,
        "size": listed.latest.manifest.size,
        "created_at": utc_time(listed.latest.created_at),
    }


def _object_row(listed: Listed) -> tuple[str, ...]:
    last = listed.latest
    size, date = show_size(last.manifest.size), local_time(last.created_at)
    return str(listed.versions), size, date, last.owner or "-", last.object


def _version_row(version: Version) -> tuple[str, ...]:
    manifest = version.manifest
    digests = (value.hex() if value else "-" for value in (manifest.blake3, manifest.sha256))
    return str(version.number), show_size(manifest.size), local_time(version.created_at), version.upload_id, *digests
