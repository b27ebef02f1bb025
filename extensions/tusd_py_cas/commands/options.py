"""What every command takes, and how it comes to the repository."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, TypeVar

import typer

from tusd_py.ports.extension import FindUploadDir
from tusd_py_cas.commands.outcomes import Failed, Misuse, NoRepository
from tusd_py_cas.repository import Repository

__all__ = [
    "AsJson",
    "Config",
    "Owner",
    "UploadDir",
    "check_user",
    "find_upload_dir",
    "opened",
    "opened_below",
    "repository_path",
    "text_argument",
    "value_of",
]

UploadDir = Annotated[
    str | None, typer.Option("--upload-dir", "-upload-dir", help="The server's upload directory.", show_default=False)
]
Config = Annotated[str | None, typer.Option("--config", "-config", help="The server's file of settings.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with exact numbers.")]
Owner = Annotated[
    str | None,
    typer.Option(
        "--owner", help="Whose object it is, where several have one of that name; '' for nobody's.", show_default=False
    ),
]

Value = TypeVar("Value")


def find_upload_dir(ctx: typer.Context, upload_dir: str | None, config: str | None) -> str:
    """The upload directory that is meant. Raises `Misuse`."""
    find: FindUploadDir = ctx.obj
    try:
        return os.path.abspath(find(upload_dir, config))
    except ValueError as error:
        raise Misuse(str(error)) from None


def repository_path(upload_dir: str) -> str:
    return f"{upload_dir}/.tusd-py/cas"


@contextmanager
def opened(ctx: typer.Context, upload_dir: str | None, config: str | None) -> Iterator[Repository]:
    """The repository, which is never made here. Raises `Misuse`, `NoRepository`, `RepositoryError`, `StorageFailure`."""
    with opened_below(find_upload_dir(ctx, upload_dir, config)) as repository:
        yield repository


@contextmanager
def opened_below(upload_dir: str) -> Iterator[Repository]:
    path = repository_path(upload_dir)
    # A directory with anything in it is one that something has been lost from, of which the repository knows more to say.
    if not os.path.lexists(f"{path}/repository.json") and not _has_entries(path):
        raise NoRepository(f"there is no repository in {path!r}: a server with -cas makes one")
    repository = Repository.open(path)
    try:
        yield repository
    finally:
        repository.close()


def check_user(directory: str) -> None:
    """Before something is written. What root makes is for root alone, and the server could not use it. Raises `Failed`."""
    owner = os.stat(directory).st_uid
    if os.geteuid() == 0 and owner != 0:
        raise Failed(f"{directory!r} belongs to the user with the number {owner}: expected to be run by that user, not by root")


def value_of(parse: Callable[[str], Value], text: str, option: str) -> Value:
    """What an option says. Raises `Misuse`."""
    try:
        return parse(text)
    except ValueError as error:
        raise Misuse(f"{option}: {error}") from None


def text_argument(text: str) -> str:
    """A name from the command line, which can't be one of ours unless it is UTF-8. Raises `Misuse`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Misuse(f"{text!r} is not UTF-8, as all names are") from None
    return text


def _has_entries(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(True for _ in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False
