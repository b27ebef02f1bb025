"""Versions by what people call them: an upload's id, an object's name, or a name and a number, `report.pdf@2`.

Both ids and names are chosen by clients. An id that is there is always meant as that; where a text can be read in two other
ways, nobody guesses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import groupby

from tusd_py_cas.commands.options import text_argument
from tusd_py_cas.commands.outcomes import Failed, Misuse, report
from tusd_py_cas.commands.texts import counted
from tusd_py_cas.index import Index
from tusd_py_cas.model import IndexDamaged, Version

__all__ = ["NOBODY", "by_object", "find", "latest", "newer", "of_object", "sound", "tell_damage"]

NOBODY = ""
"""What `--owner` says where an object has no owner."""

_NUMBERED = re.compile(r"(.+)@([1-9]\d{0,17})", re.ASCII | re.DOTALL)


def find(index: Index, what: str, owner: str | None) -> Version:
    """The version that `what` names. Raises `Misuse` where it names several, `Failed` where it names none, `IndexDamaged` where
    that can't be told, since a version is damaged."""
    text_argument(what)
    if (version := index.find_version(what)) is not None and _belongs(version, owner):
        return version
    damaged: list[IndexDamaged] = []
    found = list(latest(_versions(index, what, owner, damaged)))
    if damaged:
        raise damaged[0]  # it may be the latest
    if numbered := _NUMBERED.fullmatch(what):
        name, number = numbered[1], int(numbered[2])
        found += [version for version in _versions(index, name, owner, damaged) if version.number == number]
    if not found:
        if damaged:
            raise damaged[0]  # it may be the one
        raise Failed(f"there is no {_whose(owner)}upload, object or version {what!r}")
    if len(found) > 1:
        raise Misuse(_ambiguity(what, found))
    return found[0]


def of_object(index: Index, name: str, owner: str | None, damaged: list[IndexDamaged]) -> Iterator[Version]:
    """The versions of one object as they come; what is wrong with those that can't be read is added to `damaged`. Raises as
    `find` does."""
    text_argument(name)
    unread: list[IndexDamaged] = []
    owners = {version.owner for version in latest(_versions(index, name, owner, unread))}
    if not owners:
        if unread:
            raise unread[0]
        raise Failed(f"there is no {_whose(owner)}object {name!r}")
    if len(owners) > 1:
        raise Misuse(_owners_sentence(name, owners))
    return _versions(index, name, owners.pop() or NOBODY, damaged)


def sound(versions: Iterable[Version | IndexDamaged], damaged: list[IndexDamaged]) -> Iterator[Version]:
    """Those that can be read; what is wrong with the others is added to `damaged`."""
    for version in versions:
        if isinstance(version, IndexDamaged):
            damaged.append(version)
        else:
            yield version


def tell_damage(damaged: Sequence[IndexDamaged]) -> None:
    """Of versions that were left out. Raises `Failed` where there are any."""
    for damage in damaged:
        report(str(damage))
    if damaged:
        raise Failed(f"{counted(len(damaged), 'version')} could not be read: tusd-py cas verify tells more")


def latest(versions: Iterable[Version]) -> Iterator[Version]:
    """The latest version of each object, of versions in the order of the index."""
    return (reduce(newer, several) for several in by_object(versions))


def by_object(versions: Iterable[Version]) -> Iterator[Iterator[Version]]:
    """The versions of one object after the other, of versions in the order of the index."""
    return (several for _, several in groupby(versions, key=lambda version: (version.object, version.owner)))


def newer(one: Version, other: Version) -> Version:
    """The one whose bytes have come later. Numbers say in which order versions were made, and a small upload may have become
    one before a large one that was there first."""
    return max(one, other, key=lambda version: (version.created_at, version.number))


def _versions(index: Index, name: str, owner: str | None, damaged: list[IndexDamaged]) -> Iterator[Version]:
    return (version for version in sound(index.versions(name, owner or None), damaged) if _belongs(version, owner))


def _belongs(version: Version, owner: str | None) -> bool:
    return owner is None or (version.owner or NOBODY) == owner


def _whose(owner: str | None) -> str:
    return "" if owner is None else f"{owner!r}'s " if owner else "nobody's "


def _ambiguity(what: str, found: list[Version]) -> str:
    owners = {version.owner for version in found}
    if len(owners) > 1:
        return _owners_sentence(what, owners)
    ids = ", ".join(version.upload_id for version in found)
    return f"{what!r} is the name of an object, and the version of another one: expected the id of the upload, one of {ids}"


def _owners_sentence(what: str, owners: set[str | None]) -> str:
    names = ", ".join(repr(owner or NOBODY) for owner in sorted(owners, key=lambda owner: owner or NOBODY))
    return f"several have an object {what!r}: expected --owner, one of {names}"
