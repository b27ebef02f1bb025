"""`verify`: read what is stored, or a sample of it, and tell what is damaged and whom that concerns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from tusd_py_cas.commands.bars import progress
from tusd_py_cas.commands.options import AsJson, Config, UploadDir, opened, value_of
from tusd_py_cas.commands.outcomes import Failed
from tusd_py_cas.commands.output import tell
from tusd_py_cas.commands.texts import counted, parse_rate, parse_share, printable, show_size
from tusd_py_cas.keeping.scrubbing import Finding, Verified
from tusd_py_cas.keeping.scrubbing import verify as check
from tusd_py_cas.model import Version

__all__ = ["verify"]


def verify(
    ctx: typer.Context,
    upload_dir: UploadDir = None,
    config: Config = None,
    sample: Annotated[
        str, typer.Option("--sample", metavar="SHARE", help="Read only so many of the chunks, such as 10%.")
    ] = "100%",
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="RATE", help="Read no more than this, such as 50MB/s.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the index, and read and check chunks. What is damaged is set aside, and stored again by the next upload that has
    the same bytes."""
    fraction = value_of(parse_share, sample, "--sample")
    bytes_a_second = None if rate is None else value_of(parse_rate, rate, "--rate")
    with opened(ctx, upload_dir, config) as repository, progress("verifying", silent=as_json) as bar:
        if bar.shown:
            bar.expect(round(repository.index.totals().stored * fraction))
        found = check(repository, fraction=fraction, rate=bytes_a_second, progress=bar.advance)
    if as_json:
        tell(_document(found, fraction))
    else:
        for line in _lines(found):
            tell(line)
    if not found.sound:
        raise Failed("damage was found")
    if not found.complete:
        raise Failed("not everything could be verified")


def _document(found: Verified, fraction: float) -> dict[str, Any]:
    return {
        "sound": found.sound,
        "complete": found.complete,
        "sample": fraction,
        "checked_chunks": found.checked,
        "checked_bytes": found.bytes,
        "damaged": [_finding(one) for one in found.damaged],
        "unreadable": [_finding(one) for one in found.unreadable],
        "healed_chunks": found.healed,
        "index_errors": list(found.index_errors),
        "index_mended": list(found.mended),
        "affected": [_affected(version) for version in found.affected],
        "orphans": found.orphans,
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"chunk": finding.name.hex(), "what": finding.what}


def _affected(version: Version) -> dict[str, Any]:
    return {
        "upload": version.upload_id,
        "object": version.object,
        "owner": version.owner,
        "version": version.number,
    }


def _lines(found: Verified) -> Iterable[str]:
    yield f"{counted(found.checked, 'chunk')} checked, {show_size(found.bytes)}"
    for error in found.mended:
        yield f"index, mended: {printable(error)}"
    for error in found.index_errors:
        yield f"index: {printable(error)}"
    for kind, findings in (("damaged", found.damaged), ("unreadable", found.unreadable)):
        for finding in findings:
            yield f"{kind}: chunk {finding.name.hex()}: {printable(finding.what)}"
    for version in found.affected:
        owner = f" of {printable(version.owner)}" if version.owner else ""
        yield f"affected: {printable(version.object)}{owner}, version {version.number}, upload {printable(version.upload_id)}"
    if found.healed:
        yield f"{counted(found.healed, 'chunk')} set aside earlier, sound again"
    if found.orphans:
        yield f"{counted(found.orphans, 'file')} that the index does not know; see tusd-py cas gc"
    if found.index_errors:
        yield "Importing the same bytes again puts right what the index has wrong of them; else restore a backup of it."
    if found.damaged:
        yield "Damaged chunks are in quarantine. Uploading or importing the same bytes again heals everything that has them."
