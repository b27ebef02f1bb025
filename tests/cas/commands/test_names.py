"""Names of objects as paths: they stay inside, and no two versions share one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tusd_py_cas.commands.names import safe_parts
from tusd_py_cas.model import Manifest, Version

MANIFEST = Manifest(1, bytes(32), 0, None, None, False, 0.0)


def version(name: str, owner: str | None = None, number: int = 1) -> Version:
    return Version("id", name, owner, number, MANIFEST, 0.0)


def path(name: str, *, numbered: bool = False, shared: bool = False, flat: bool = False, number: int = 1) -> str:
    return "/".join(safe_parts(version(name, number=number), numbered=numbered, shared=shared, flat=flat))


@pytest.mark.parametrize("name", ["a.txt", "photos/2024/a b.jpg", "ä/ö", ".profile", "a~b", "x@1"])
def test_harmless_names_stay(name: str) -> None:
    assert path(name) == name


def test_a_number_is_put_behind_the_name() -> None:
    assert path("a/b.txt", numbered=True, number=3) == "a/b.txt@3"


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("/etc/passwd", "etc/passwd~"),
        ("../../etc/passwd", "__/__/etc/passwd~"),
        ("a/./b", "a/_/b~"),
        ("a//b", "a/b~"),
        ("a/", "a~"),
        ("", "object~"),
        ("///", "object~"),
        ("..", "__~"),
        ("a\0b", "a_b~"),
        ("a\x1b[31m\nb", "a_[31m_b~"),
        ("\u202egpj.exe", "_gpj.exe~"),
        ("x" * 300, "x" * 200 + "~"),
        ("ä" * 150, "ä" * 100 + "~"),
        ("d/" * 600 + "x", "d_d_d_"),
        ("x.metadata.json", "x.metadata.json~"),
        ("x~0123456789abcdef", "x~0123456789abcdef~"),
    ],
)
def test_other_names_are_changed_and_say_so(name: str, begins: str) -> None:
    changed = path(name)
    assert changed.startswith(begins)
    assert changed[-17] == "~"


def test_owners_of_the_same_name_have_different_paths() -> None:
    mine = safe_parts(version("a", "me"), numbered=False, shared=True)
    yours = safe_parts(version("a", "you"), numbered=False, shared=True)
    assert len({mine, yours, safe_parts(version("a"), numbered=False)}) == 3


def test_a_flat_name_has_no_directories() -> None:
    assert path("a/b/c", flat=True).startswith("a_b_c~")


NAMES = st.text(alphabet=st.sampled_from("ab./\\~@\0\n\x1b ä\u202e0123456789"), max_size=12) | st.text()


@given(NAMES, st.booleans(), st.booleans())
def test_paths_stay_below_their_directory(name: str, numbered: bool, flat: bool) -> None:
    parts = safe_parts(version(name), numbered=numbered, flat=flat)
    assert parts
    for part in parts:
        assert part not in ("", ".", "..")
        assert "/" not in part and part.isprintable()
        assert len(part.encode()) <= 240
    assert len("/".join(parts).encode()) <= 1300


@given(st.sets(NAMES, min_size=2, max_size=2), st.booleans(), st.booleans())
def test_no_two_objects_share_a_path(names: set[str], numbered: bool, flat: bool) -> None:
    first, second = names
    assert path(first, numbered=numbered, flat=flat) != path(second, numbered=numbered, flat=flat)
    assert path(first, numbered=numbered) != path(second, numbered=numbered, flat=True)
