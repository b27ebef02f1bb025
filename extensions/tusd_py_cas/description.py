"""`repository.json`: which repository this is, and how its contents are cut. Written once, before anything else there is.

The cuts are what makes equal contents equal chunks, and their seed is secret: knowing it, one could cut known files as they are
cut here, and find out from the names of chunks which of them are stored. So the file is not readable for others, and it has a
seal: with a digit changed, all would go on working but nothing new would be found stored already.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass, field, fields
from typing import Any

from blake3 import blake3

from tusd_py.fs.directories import sync_directory
from tusd_py_cas.layout import Layout, write_temporary
from tusd_py_cas.model import ALGORITHM, Parameters, RepositoryError
from tusd_py_cas.options import DEFAULT_CHUNK_SIZE, is_chunk_size
from tusd_py_cas.os_errors import NO_LINKS, reading_failed, writing_failed

__all__ = ["FORMAT", "Description", "create_description", "new_parameters", "read_description"]

FORMAT = 1
"""Goes up when a repository can't be used by what used the one before."""

_SIZES = {"min_size": (64, 1 << 20), "avg_size": (256, 4 << 20), "max_size": (1024, 16 << 20)}
"""What the chunker (pyfastcdc) takes."""

_SEED_BITS = 63
"""The chunker takes no seed whose highest bit is set: it shifts it as a Python integer."""

_AT_MOST = 64 * 1024
"""Bytes of a description; ours have less than 400."""


@dataclass(frozen=True, slots=True)
class Description:
    """`id` is 32 hexadecimal digits; the index has the same. The parameters, which are secret, are not shown in logs."""

    id: str
    parameters: Parameters = field(repr=False)


def new_parameters(avg_size: int = DEFAULT_CHUNK_SIZE) -> Parameters:
    """For a new repository: a new secret, and sizes of chunks a factor of four around `avg_size` bytes.

    `ValueError` unless that is a power of two from 64 KiB to 4 MiB.
    """
    if not is_chunk_size(avg_size):
        raise ValueError(f"chunks can't have {avg_size} bytes on average: expected a power of two from 64 KiB to 4 MiB")
    seed = 1 + secrets.randbelow((1 << _SEED_BITS) - 1)  # 0 would be no secret: the chunker's published table
    return Parameters(seed=seed, min_size=avg_size // 4, avg_size=avg_size, max_size=avg_size * 4)


def read_description(layout: Layout) -> Description | None:
    """What the repository says of itself; None where there is no such file. Raises `RepositoryError`, `StorageFailure`."""
    try:
        text = _read(layout.description)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise reading_failed(error, f"reading {layout.description!r}") from error
    try:
        return _parse(text)
    except _NotUnderstood as objection:
        raise RepositoryError(f"{layout.description!r}: {objection}") from None


def create_description(layout: Layout, parameters: Parameters, *, durable: bool) -> Description:
    """Describe a new repository. Where another process does so at the same moment, one of both wins, and both get its.

    The directory for temporary files is there. Durable on return. `ValueError` for parameters that can't be used;
    raises `RepositoryError`, `StorageFailure`.
    """
    try:
        _check(parameters)
    except _NotUnderstood as objection:
        raise ValueError(str(objection)) from None
    text = _format(Description(secrets.token_hex(16), parameters))
    temporary = layout.new_temporary()
    try:
        write_temporary(temporary, text, durable=durable)
        try:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, layout.description)
        finally:
            os.unlink(temporary)
        if durable:  # whoever made it: neither is to go on with a secret that may be gone after a power cut
            sync_directory(layout.root)
    except OSError as error:
        if error.errno in NO_LINKS and error.filename2 is not None:
            raise RepositoryError(
                f"{layout.root!r} is on a file system without hard links, which a repository needs"
            ) from error
        raise writing_failed(error, f"making {layout.description!r}") from error
    made = read_description(layout)
    if made is None:
        raise RepositoryError(f"{layout.description!r} was removed while the repository was being made")
    return made


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(fd, _AT_MOST)
    finally:
        os.close(fd)


class _NotUnderstood(Exception):
    """What is wrong with a description or its parameters."""


def _format(description: Description) -> bytes:
    content = {
        "format": FORMAT,
        "id": description.id,
        "parameters": {
            "algorithm": description.parameters.algorithm,
            "seed": f"{description.parameters.seed:016x}",
            **{size: getattr(description.parameters, size) for size in _SIZES},
        },
    }
    return json.dumps({**content, "seal": _seal(content)}, indent=2).encode() + b"\n"


def _seal(content: dict[str, Any]) -> str:
    """Over everything but the seal itself, however it is laid out."""
    return blake3(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest(length=16)


def _parse(text: bytes) -> Description:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _NotUnderstood("this is no JSON; restore it from a backup") from None
    if not isinstance(content, dict) or type(content.get("format")) is not int:
        raise _NotUnderstood("it does not say which format it has; restore it from a backup")
    if content["format"] != FORMAT:
        raise _NotUnderstood(f"its format is {content['format']}, but this version of tusd-py knows only {FORMAT}")
    if content.pop("seal", None) != _seal(content):
        raise _NotUnderstood("it does not fit its seal: a bit has flipped, or somebody has edited it; restore it from a backup")
    try:
        values = dict(content["parameters"])
        parameters = Parameters(seed=int(values.pop("seed"), 16), **values)
        identity = content["id"]
    except (KeyError, TypeError, ValueError):
        raise _NotUnderstood("it lacks something that its format has, or has something that it does not") from None
    _check(parameters)
    if not isinstance(identity, str) or len(identity) != 32:
        raise _NotUnderstood("it has no id of 32 digits")
    return Description(identity, parameters)


def _check(parameters: Parameters) -> None:
    """Whether the chunker takes them."""
    if parameters.algorithm != ALGORITHM:
        raise _NotUnderstood(
            f"contents are cut by {parameters.algorithm!r}, but this version of tusd-py has only {ALGORITHM!r}"
        )
    if any(type(getattr(parameters, each.name)) is not int for each in fields(parameters) if each.name != "algorithm"):
        raise _NotUnderstood("sizes and seed are not all numbers")
    for size, (least, most) in _SIZES.items():
        if not least <= getattr(parameters, size) <= most:
            raise _NotUnderstood(f"{size} is {getattr(parameters, size)} bytes, but has to be {least} to {most}")
    if not parameters.min_size <= parameters.avg_size <= parameters.max_size:
        raise _NotUnderstood("avg_size has to be between min_size and max_size")
    if not 0 <= parameters.seed < 1 << _SEED_BITS:
        raise _NotUnderstood("seed has to be 0 to 2^63 - 1")
