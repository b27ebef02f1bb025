"""`import`: files and directories become objects; without any, finished uploads that are not stored yet are stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from tusd_py_cas.commands.bars import progress
from tusd_py_cas.commands.import_run import Counts, ImportRun
from tusd_py_cas.commands.options import (
    AsJson,
    Config,
    UploadDir,
    check_user,
    find_upload_dir,
    repository_path,
    text_argument,
    value_of,
)
from tusd_py_cas.commands.outcomes import Failed, Misuse, report
from tusd_py_cas.commands.output import tell
from tusd_py_cas.commands.records import RecordUnreadable, data_path, read_record
from tusd_py_cas.commands.sources import Found, Source, files, size_if_finished, uploads
from tusd_py_cas.commands.texts import counted, parse_size, share, show_size
from tusd_py_cas.model import Parameters
from tusd_py_cas.options import DEFAULT_LEVEL, LEVELS
from tusd_py_cas.repository import Repository, new_parameters

__all__ = ["import_"]

Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="Files and directories; links are not followed.", show_default=False),
]


def import_(
    ctx: typer.Context,
    paths: Paths = None,
    upload_dir: UploadDir = None,
    config: Config = None,
    name: Annotated[
        str | None, typer.Option("--object", metavar="NAME", help="The name for a single file.", show_default=False)
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Put this before all names.", show_default=False)] = "",
    level: Annotated[
        int, typer.Option("--level", min=LEVELS[0], max=LEVELS[-1], help="Compression level of zstd.")
    ] = DEFAULT_LEVEL,
    chunk_size: Annotated[
        str, typer.Option("--chunk-size", help="Average size of chunks, where the repository is made by this.")
    ] = "1MiB",
    as_json: AsJson = False,
) -> None:
    """Store files and directories, or, if none is named, the finished uploads of the upload directory. Makes the repository
    where there is none."""
    if name is not None and (prefix or not paths or len(paths) != 1):
        raise Misuse("--object goes with one file, and without --prefix")
    if prefix and not paths:
        raise Misuse("--prefix goes with files or directories")
    if name == "":
        raise Misuse("--object wants a name")
    for text in (name or "", prefix):
        text_argument(text)
    parameters = value_of(lambda text: new_parameters(parse_size(text)), chunk_size, "--chunk-size")
    root = find_upload_dir(ctx, upload_dir, config)
    with _made(root, parameters) as repository:
        counts = _run(repository, root, _Plan(paths or [], prefix, name), level=level, as_json=as_json)
    if as_json:
        tell(_document(counts))
    else:
        tell(_summary(counts, of_uploads=not paths))
    if counts.failed:
        raise Failed(f"{counts.failed} could not be stored")


class _Plan:
    """What to take in; may be gone through twice, the first time for the sake of a progress bar."""

    def __init__(self, paths: list[str], prefix: str, name: str | None) -> None:
        self._paths, self._prefix, self._name = paths, prefix, name

    def found(self, upload_dir: str) -> Iterator[Found]:
        if not self._paths:
            return uploads(upload_dir)
        return files(self._paths, prefix=self._prefix, name=self._name, repository=repository_path(upload_dir))

    def size(self, upload_dir: str) -> int:
        return sum(_size(one) for one in self.found(upload_dir) if isinstance(one, Source))


def _size(source: Source) -> int:
    if source.length is not None:
        return source.length
    try:
        return os.lstat(source.path).st_size
    except OSError:
        return 0


@contextmanager
def _made(upload_dir: str, parameters: Parameters) -> Iterator[Repository]:
    """The repository, made with these parameters if there is none."""
    if not os.path.isdir(upload_dir):
        raise Failed(f"there is no upload directory {upload_dir!r}: expected -upload-dir as the server has it")
    path = repository_path(upload_dir)
    check_user(next(known for known in (path, os.path.dirname(path), upload_dir) if os.path.isdir(known)))
    os.makedirs(os.path.dirname(path), 0o775, exist_ok=True)
    repository = Repository.open(path, create=parameters)
    try:
        yield repository
    finally:
        repository.close()


def _run(repository: Repository, upload_dir: str, plan: _Plan, *, level: int, as_json: bool) -> Counts:
    from tusd_py_cas.ingest.engine import Engine

    def still_finished(upload_id: str) -> bool:
        try:
            record = read_record(upload_dir, upload_id)
        except (RecordUnreadable, OSError):
            return False
        if record is None:
            return False
        size = size_if_finished(upload_dir, record.upload, data_path(upload_dir, record.upload))
        return size is not None and size == record.upload.length

    engine = Engine(repository, level=level)
    try:
        with progress("importing", silent=as_json) as bar:
            if bar.shown:
                bar.expect(plan.size(upload_dir))
            run = ImportRun(
                repository,
                engine,
                is_finished=still_finished,
                failed=lambda path, what: report(f"{path!r}: {what}"),
                advance=bar.advance,
            )
            run.run(plan.found(upload_dir))
    finally:
        engine.close()
    return run.counts


def _document(counts: Counts) -> dict[str, Any]:
    return {
        "stored": counts.files,
        "unchanged": counts.unchanged,
        "skipped": counts.skipped,
        "failed": counts.failed,
        "read_bytes": counts.bytes,
        "known_bytes": counts.bytes - counts.new_bytes,
        "new_bytes": counts.new_bytes,
        "stored_bytes": counts.stored_bytes,
        "chunks": counts.chunks,
        "new_chunks": counts.new_chunks,
        "failures": [{"path": path, "error": what} for path, what in counts.failures],
    }


def _summary(counts: Counts, *, of_uploads: bool) -> str:
    what, same, other = ("upload", "stored before", "not finished") if of_uploads else ("file", "unchanged", "skipped")
    known = counts.bytes - counts.new_bytes
    return (
        f"{counted(counts.files, what)} stored, {counts.unchanged} {same}, {counts.skipped} {other}, {counts.failed} failed\n"
        f"{show_size(counts.bytes)} read: {show_size(known)} known ({share(known, counts.bytes):.1f} %), "
        f"{show_size(counts.new_bytes)} new, {show_size(counts.stored_bytes)} written"
    )
