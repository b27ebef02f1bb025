"""What every index promises about chunks."""

from __future__ import annotations

import pytest
from tusd_py_cas.index import Index
from tusd_py_cas.model import Codec, IndexDamaged, State, StoredChunk

from tests.cas.index.support import Clock, Files, chunk, chunks, collect, content, store, version, yes


class ChunkSuite:
    """Needs the fixtures `clock` and `index`, an empty one that tells the time by it."""

    def test_finds_what_was_added(self, index: Index) -> None:
        store(index, chunks(1, 2, 3))
        assert index.find_chunks([chunk(n).name for n in (2, 3, 4)]) == {chunk(n).name: chunk(n) for n in (2, 3)}

    def test_finds_nothing_among_no_names(self, index: Index) -> None:
        store(index, chunks(1))
        assert index.find_chunks([]) == {}

    def test_finds_thousands_at_once_and_the_same_name_twice(self, index: Index) -> None:
        many = chunks(*range(5000))
        store(index, many)
        names = [each.name for each in many]
        assert index.find_chunks([*names, *names]) == {each.name: each for each in many}

    def test_a_name_has_32_bytes(self, index: Index) -> None:
        with pytest.raises(ValueError, match="32 bytes"):
            index.find_chunks([bytes(31)])

    def test_nothing_is_added_of_nothing(self, index: Index) -> None:
        assert list(index.add_chunks([], yes)) == []

    def test_a_live_chunk_stays_as_it_is(self, index: Index) -> None:
        store(index, chunks(1, 3))
        asked: list[StoredChunk] = []
        again = [chunk(1, Codec.ZSTD), chunk(2, Codec.ZSTD), chunk(3)]
        assert list(index.add_chunks(again, lambda each: asked.append(each) or True)) == []  # type: ignore[func-returns-value]
        assert asked == [chunk(1), chunk(2, Codec.ZSTD)], "nobody looks for a file that it has in the same form"
        assert set(index.find_chunks([chunk(n).name for n in (1, 2, 3)]).values()) == {chunk(1), chunk(2, Codec.ZSTD), chunk(3)}

    def test_a_live_chunk_whose_file_was_replaced_is_stored_as_the_new_one_is(self, index: Index) -> None:
        """By who compresses in another way, and did not know of it yet."""
        files = Files()
        store(index, [chunk(1), chunk(2), chunk(3)])
        files.write([chunk(1), chunk(1, Codec.ZSTD), chunk(2, Codec.ZSTD)])
        again = [chunk(n, Codec.ZSTD) for n in (1, 2, 3)]
        assert list(index.add_chunks(again, files.exists)) == [chunk(3, Codec.ZSTD)], "its row is as wrong as before"
        assert set(index.find_chunks([each.name for each in again]).values()) == {chunk(1), chunk(2, Codec.ZSTD), chunk(3)}
        smaller = StoredChunk(chunk(2).name, chunk(2).size, 7, Codec.ZSTD)
        assert list(index.add_chunks([smaller], lambda each: each == smaller)) == []
        assert index.find_chunks([chunk(2).name]) == {chunk(2).name: smaller}
        assert list(index.check()) == []

    def test_what_does_not_exist_is_told_and_not_added(self, index: Index) -> None:
        files = Files()
        files.write(chunks(1, 3))
        assert list(index.add_chunks(chunks(1, 2, 3), files.exists)) == chunks(2)
        assert set(index.find_chunks([each.name for each in chunks(1, 2, 3)]).values()) == set(chunks(1, 3))

    def test_an_error_while_looking_for_files_adds_nothing(self, index: Index) -> None:
        def fail_at_the_second(each: StoredChunk) -> bool:
            if each == chunk(2):
                raise OSError("disk gone")
            return True

        with pytest.raises(OSError, match="disk gone"):
            index.add_chunks(chunks(1, 2), fail_at_the_second)
        assert index.find_chunks([chunk(1).name]) == {}
        store(index, chunks(1))

    def test_the_same_chunk_twice_in_one_batch(self, index: Index) -> None:
        store(index, [chunk(1), chunk(1, Codec.ZSTD)])
        assert index.find_chunks([chunk(1).name]) == {chunk(1).name: chunk(1)}

    def test_the_same_name_with_another_size_means_damage(self, index: Index) -> None:
        store(index, chunks(1))
        other = StoredChunk(chunk(1).name, 5, 5, Codec.RAW)
        with pytest.raises(IndexDamaged, match="1001 bytes in the index, and 5 in fact"):
            index.add_chunks([other], yes)

    def test_damaged_chunks_do_not_count_as_stored_until_they_are_stored_again(self, index: Index) -> None:
        store(index, chunks(1, 2))
        index.mark_damaged([chunk(1).name, chunk(9).name])
        assert set(index.find_chunks([chunk(1).name, chunk(2).name]).values()) == {chunk(2)}
        assert {each.name: state for each, state in index.all_chunks()} == {
            chunk(1).name: State.DAMAGED,
            chunk(2).name: State.LIVE,
        }
        store(index, [chunk(1, Codec.ZSTD)])
        assert index.find_chunks([chunk(1).name]) == {chunk(1).name: chunk(1, Codec.ZSTD)}

    def test_a_condemned_chunk_is_not_marked_as_damaged(self, index: Index, clock: Clock) -> None:
        store(index, chunks(1))
        index.condemn(clock.now + 1)
        index.mark_damaged([chunk(1).name])
        assert [state for _, state in index.all_chunks()] == [State.CONDEMNED]

    def test_all_chunks_in_the_order_of_names_some_at_a_time(self, index: Index) -> None:
        many = sorted(chunks(*range(25)), key=lambda each: each.name)
        store(index, many)
        seen: list[StoredChunk] = []
        while found := index.all_chunks(seen[-1].name if seen else b"", limit=10):
            assert len(found) <= 10
            seen += [each for each, _ in found]
        assert seen == many

    def test_totals_and_sizes(self, index: Index, clock: Clock) -> None:
        store(index, [chunk(1), chunk(2, Codec.ZSTD), chunk(3), StoredChunk(bytes(32), 1, 1, Codec.RAW)])
        first = content(index, 1, 2, 1)
        version(index, "a", first)
        version(index, "b", first)
        version(index, "c", content(index, 2), object="other")
        content(index, 3)
        index.mark_damaged([chunk(1).name])
        totals = index.totals()
        assert (totals.objects, totals.versions, totals.manifests, totals.chunks, totals.damaged) == (2, 3, 3, 4, 1)
        assert totals.chunk_bytes == 1001 + 1002 + 1003 + 1, "in use or not"
        assert (totals.logical, totals.unique) == (2 * (1001 + 1002 + 1001) + 1002, 1001 + 1002)
        assert (totals.stored, totals.unused) == (501, 1003 + 1)  # what is damaged takes no place among the chunks
        assert index.chunk_sizes() == {0: 1, 9: 3}
        index.drop_version("a"), index.drop_version("b"), index.drop_version("c")
        collect(index, Files(), clock.now + 1)
        assert index.totals() == type(totals)()

    def test_sizes_are_counted_by_powers_of_two(self, index: Index) -> None:
        sizes = [1, 2, 3, 4, 1023, 1024, 1025, 2047, 2048, 4 << 20]
        store(index, [StoredChunk(chunk(size).name, size, size, Codec.RAW) for size in sizes])
        assert index.chunk_sizes() == {0: 1, 1: 2, 2: 1, 9: 1, 10: 3, 11: 1, 22: 1}

    def test_an_empty_index_has_nothing(self, index: Index) -> None:
        assert index.totals() == type(index.totals())()
        assert index.chunk_sizes() == {}
        assert list(index.check()) == []
