"""Seals depend on everything that they are about, and on where it ends."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from tusd_py_cas.model import Manifest
from tusd_py_cas.sqlite_index.recent import Recent
from tusd_py_cas.sqlite_index.seals import SEAL_SIZE, seal_chunk, seal_leaf, seal_manifest, seal_version

MANIFEST = Manifest(1, b"n" * 32, 10, b"b" * 32, b"s" * 32, False, 5.0)
VERSION = {
    "upload_id": "u",
    "object": "o",
    "owner": "w",
    "number": 1,
    "manifest": b"n" * 32,
    "metadata": "{}",
    "created_at": 5.0,
}


def all_different(values: list[object]) -> bool:
    return len(set(values)) == len(values)


def test_a_leaf() -> None:
    a, b = b"a" * 32, b"b" * 32
    seals = [
        seal_leaf(a + b, [1, 2]),
        seal_leaf(b + a, [1, 2]),
        seal_leaf(a + b, [2, 1]),
        seal_leaf(a, [1]),
        seal_leaf(b"", []),
    ]
    assert all_different(list(seals))
    assert {len(seal) for seal in seals} == {SEAL_SIZE}


def test_a_manifest() -> None:
    changes = [
        {},
        {"name": b"m" * 32},
        {"size": 11},
        {"blake3": None},
        {"sha256": None},
        {"sha256": b"b" * 32, "blake3": b"s" * 32},
        {"composed": True},
        {"created_at": 6.0},
    ]
    seals: list[object] = [seal_manifest(replace(MANIFEST, **change), [0, 5], [b"x", b"y"]) for change in changes]  # type: ignore[arg-type]
    seals += [seal_manifest(MANIFEST, [0, 6], [b"x", b"y"]), seal_manifest(MANIFEST, [0, 5], [b"y", b"x"])]
    assert all_different(seals)
    assert seal_manifest(replace(MANIFEST, id=7), [0, 5], [b"x", b"y"]) == seals[0]


def test_a_version() -> None:
    changes = {
        "upload_id": "uo",
        "object": "",
        "owner": None,
        "number": 2,
        "manifest": b"m" * 32,
        "metadata": "{ }",
        "created_at": 6.0,
    }
    seals = [seal_version(**{**VERSION, key: value}) for key, value in changes.items()]  # type: ignore[arg-type]
    seals += [seal_version(**VERSION), seal_version(**{**VERSION, "owner": ""})]  # type: ignore[arg-type]
    assert all_different(list(seals))


def test_a_chunk() -> None:
    row = (b"c" * 32, 100, 50, 1, 0)
    flipped = [(*row[:at], row[at] ^ 1 << bit, *row[at + 1 :]) for at in range(1, 3) for bit in range(40)]  # type: ignore[operator]
    flipped += [(*row[:3], codec, state) for codec, state in [(0, 0), (1, 1), (1, 2), (0, 1)]]
    flipped += [(b"c" * 31 + b"b", *row[1:])]
    assert all_different([seal_chunk(*each) for each in (row, *flipped)])
    assert [seal_chunk(*row[:4], -1), seal_chunk(row[0], -5, *row[2:])] == [-1, -1]


def test_the_recent_are_kept_by_weight() -> None:
    recent: Recent[str, int] = Recent(10)
    for name in "abc":
        recent.put(name, ord(name), 3)
    assert recent.get("a") == 97
    recent.put("d", 100, 4)
    assert [name for name in "abcd" if recent.get(name) is not None] == ["a", "c", "d"]
    recent.put("a", 1, 4)
    assert [name for name in "abcd" if recent.get(name) is not None] == ["a", "d"]
    assert repr(recent) == "<Recent 2 items, 8 of 10>"
    recent.put("e", 1, 11)
    assert recent.get("e") is None


def test_all_of_these_are_different_kinds() -> None:
    same = [seal_leaf(b"", []), seal_manifest(replace(MANIFEST, name=b""), [], []), seal_version(**VERSION)]  # type: ignore[arg-type]
    assert all(one != other for one, other in combinations(same, 2))
