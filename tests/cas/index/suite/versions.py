"""What every index promises about objects and their versions."""

from __future__ import annotations

import pytest
from tusd_py_cas.index import Index
from tusd_py_cas.model import ChunksMissing, Version

from tests.cas.index.support import Clock, Files, collect, content, version


def told(versions: list[Version]) -> list[tuple[str, str | None, int, str]]:
    return [(each.object, each.owner, each.number, each.upload_id) for each in versions]


class VersionSuite:
    """Needs the fixtures `clock` and `index`, an empty one that tells the time by it."""

    def test_a_version_is_found_as_it_was_added(self, index: Index) -> None:
        made = index.add_version(
            upload_id="über/1",
            object="höhe\0x",
            owner="",
            manifest=content(index, 1),
            metadata={"b": "ß\U0001f600", "a": ""},
            raw=True,
            at=7,
        )
        found = index.find_version("über/1")
        assert found == made
        assert (found.object, found.owner, found.number, found.raw, found.created_at) == ("höhe\0x", "", 1, True, 7.0)
        assert found.metadata == {"a": "", "b": "ß\U0001f600"}
        assert index.find_version("other") is None

    def test_numbers_count_up_for_each_object_of_each_owner(self, index: Index) -> None:
        made = content(index, 1)
        numbers = [
            version(index, f"{n}", made, object=object, owner=owner).number
            for n, (object, owner) in enumerate([("o", None), ("o", None), ("o", "me"), ("p", None), ("o", ""), ("o", None)])
        ]
        assert numbers == [1, 2, 1, 1, 1, 3]

    def test_the_same_upload_with_the_same_content_stays_the_version_that_it_is(self, index: Index) -> None:
        made = content(index, 1)
        first = version(index, "a", made)
        index.clear_raw("a")
        again = version(index, "a", made, object="other")
        assert (again.number, again.object, again.raw) == (first.number, first.object, False)
        assert told(list(index.versions())) == [("object", None, 1, "a")]

    def test_the_same_upload_with_another_content_is_a_new_version(self, index: Index) -> None:
        version(index, "a", content(index, 1))
        assert version(index, "a", content(index, 2)).number == 2, "the object goes on living"
        version(index, "a", content(index, 3), object="other")
        assert told(list(index.versions())) == [("other", None, 1, "a")]
        assert list(index.check()) == []

    def test_a_version_needs_its_content(self, index: Index, clock: Clock) -> None:
        made = content(index, 1)
        collect(index, Files(), clock.now + 1)
        with pytest.raises(ChunksMissing):
            version(index, "a", made)
        assert index.find_version("a") is None

    def test_dropping(self, index: Index) -> None:
        version(index, "a", content(index, 1))
        version(index, "b", content(index, 1))
        assert index.drop_version("a")
        assert not index.drop_version("a")
        assert index.find_version("a") is None
        assert version(index, "c", content(index, 1)).number == 3, "numbers are not used again"
        assert index.drop_version("b")
        assert index.drop_version("c")
        assert index.totals().objects == 0
        assert version(index, "d", content(index, 1)).number == 1

    def test_raw_files(self, index: Index) -> None:
        made = content(index, 1)
        for upload_id in ("d", "a", "c", "b"):
            version(index, upload_id, made, raw=upload_id != "c")
        assert list(index.with_raw()) == ["a", "b", "d"]
        assert list(index.with_raw(after="a", limit=1)) == ["b"]
        index.clear_raw("b")
        index.clear_raw("b")
        index.clear_raw("nobody")
        assert list(index.with_raw()) == ["a", "d"]
        found = index.find_version("b")
        assert found is not None
        assert not found.raw

    def test_versions_in_order(self, index: Index) -> None:
        made = content(index, 1)
        for n, (object, owner) in enumerate(
            [("b", "x"), ("a", None), ("b", None), ("a", "y"), ("b", ""), ("b", None), ("a", None)]
        ):
            version(index, f"{n}", made, object=object, owner=owner)
        everything = [
            ("a", None, 1, "1"),
            ("a", None, 2, "6"),
            ("a", "y", 1, "3"),
            ("b", None, 1, "2"),
            ("b", None, 2, "5"),
            ("b", "", 1, "4"),
            ("b", "x", 1, "0"),
        ]
        assert told(list(index.versions())) == everything
        assert told(list(index.versions("b"))) == everything[3:]
        assert told(list(index.versions("b", ""))) == everything[5:6]
        assert told(list(index.versions(owner="y"))) == everything[2:3]
        assert told(list(index.versions("c"))) == []

    def test_more_versions_than_are_read_at_once_while_others_come(self, index: Index) -> None:
        made = content(index, 1)
        for n in range(1203):
            version(index, f"{n}", made, object=f"{n % 3:04}")
        seen = []
        for each in index.versions():
            if not seen:
                version(index, "late", made, object="zzz")
                index.drop_version("1202")
            seen.append(each.upload_id)
        expected = [f"{n}" for rest in range(3) for n in range(rest, 1203, 3)]
        assert seen == [*(each for each in expected if each != "1202"), "late"]
