"""What every index promises about versions whose upload is missing."""

from __future__ import annotations

from tusd_py_cas.index import Index
from tusd_py_cas.model import IMPORTED

from tests.cas.index.support import Clock, Files, collect, content, version

MANY = 2503
"""Ids; no number of them that is asked for at a time divides it."""


def add(index: Index, *upload_ids: str) -> None:
    made = content(index, 1)
    for upload_id in upload_ids:
        version(index, upload_id, made)


class VanishedSuite:
    """Needs the fixtures `clock` and `index`, an empty one that tells the time by it."""

    def test_uploads_in_order_some_at_a_time(self, index: Index) -> None:
        add(index, "d", "b", "über", "c", "B", "a/b", "a")
        assert list(index.uploads()) == ["B", "a", "a/b", "b", "c", "d", "über"]
        assert list(index.uploads(limit=2)) == ["B", "a"]
        assert list(index.uploads(after="a", limit=3)) == ["a/b", "b", "c"]
        assert list(index.uploads(after="a0", limit=1)) == ["b"]
        assert list(index.uploads(after="über")) == []

    def test_uploads_without_imported_files(self, index: Index) -> None:
        around = [".import", ".import,", ".import.", ".import.5", ".impost"]
        add(index, *around, IMPORTED, f"{IMPORTED}00", f"{IMPORTED}~~")
        assert list(index.uploads()) == around
        for limit in range(len(around)):
            assert list(index.uploads(limit=limit)) == around[:limit]
        for n, upload_id in enumerate(around):
            assert list(index.uploads(after=upload_id)) == around[n + 1 :]
        for inside in (IMPORTED, f"{IMPORTED}0", f"{IMPORTED}~~~"):
            assert list(index.uploads(after=inside, limit=2)) == around[2:4]

    def test_uploads_whose_ids_look_like_those_of_imported_files(self, index: Index) -> None:
        """Also like those that there were before."""
        of_uploads = sorted(["import-1", f"import-{'0' * 31}", f"import-{'0' * 31}A", f"import-{'0' * 33}", "import.mov"])
        add(index, *of_uploads, f"import-{'09af' * 8}", f"import-{'c' * 32}")
        assert list(index.uploads()) == of_uploads
        assert list(index.uploads(limit=4)) == of_uploads[:4]

    def test_which_of_many_have_no_version(self, index: Index) -> None:
        add(index, "7", "2000", "a")
        asked = [f"{n}" for n in range(MANY, 0, -1)]
        assert list(index.without_version(asked)) == [each for each in asked if each not in ("7", "2000")]
        assert list(index.without_version(["b", "a", "b", "a\0", "A", ""])) == ["b", "b", "a\0", "A", ""]
        assert list(index.without_version([])) == []

    def test_it_is_noted_since_when_an_upload_is_missing(self, index: Index) -> None:
        add(index, "a", "b", "c")
        assert index.note_vanished(["c", "a", "nobody"], 7.5) == {"a": 7.5, "c": 7.5}
        assert index.note_vanished(["a", "b"], 9) == {"a": 7.5, "b": 9.0}
        assert index.note_vanished(["a"], 5) == {"a": 7.5}, "the first time counts"
        assert index.note_vanished(["nobody"], 9) == index.note_vanished([], 9) == {}
        assert list(index.vanished()) == ["a", "b", "c"]
        assert list(index.vanished(after="a", limit=1)) == ["b"]
        assert index.totals().vanished == 3
        assert list(index.check()) == []

    def test_many_are_missing(self, index: Index) -> None:
        made = content(index, 1)
        many = [f"{n:05}" for n in range(MANY)]
        for upload_id in many:
            version(index, upload_id, made)
        assert index.note_vanished(many[::-1], 7) == dict.fromkeys(many, 7.0)
        assert list(index.vanished(limit=MANY)) == many
        index.note_present(many[1:])
        assert list(index.vanished()) == many[:1]

    def test_what_is_there_again_is_forgotten(self, index: Index) -> None:
        add(index, "a", "b", "c")
        index.note_vanished(["a", "b"], 7)
        index.note_present(["b", "c", "nobody"])
        index.note_present(["c"])
        index.note_present([])
        assert list(index.vanished()) == ["a"]
        assert index.note_vanished(["a", "b"], 9) == {"a": 7.0, "b": 9.0}

    def test_what_is_finished_again_is_not_missing(self, index: Index) -> None:
        made = content(index, 1)
        for again in (made, content(index, 2)):
            version(index, "a", made)
            index.note_vanished(["a"], 7)
            version(index, "a", again)
            assert list(index.vanished()) == []
            assert index.note_vanished(["a"], 9) == {"a": 9.0}

    def test_it_is_forgotten_with_the_version(self, index: Index, clock: Clock) -> None:
        add(index, "a", "b")
        index.note_vanished(["a", "b"], 7)
        assert index.drop_version("a")
        assert list(index.vanished()) == ["b"]
        add(index, "a")
        assert index.note_vanished(["a"], 9) == {"a": 9.0}
        index.drop_version("a")
        index.drop_version("b")
        collect(index, Files(), clock.now + 1)
        assert index.totals() == type(index.totals())()
        assert list(index.check()) == []
