"""What every index promises to the collector, and to those who work beside it."""

from __future__ import annotations

import pytest
from tusd_py_cas.index import Index, Swept, Unused
from tusd_py_cas.model import ChunksMissing, Codec, State, StoredChunk

from tests.cas.index.support import Clock, Files, add_content, chunk, chunks, collect, content, numbers_of, refs, store, version


class KeepingSuite:
    """Needs the fixtures `clock` and `index`, an empty one that tells the time by it."""

    def test_what_a_version_has_stays(self, index: Index, clock: Clock) -> None:
        made = content(index, 1, 2, 3, leaf=2)
        version(index, "a", made)
        assert index.unused(clock.now + 1000) == Unused()
        assert index.sweep(clock.now + 1000) == Swept()
        assert index.condemn(clock.now + 1000) == 0
        assert numbers_of(index.pieces(made)) == [1, 2, 3]

    def test_what_nothing_has_goes_once_it_is_old_enough(self, index: Index, clock: Clock) -> None:
        files = Files()
        files.write(chunks(1, 2, 3))
        content(index, 1, 2, 3, leaf=2)
        assert index.unused(clock.now) == Unused()
        assert collect(index, files, clock.now) == 0
        assert index.unused(clock.now + 1) == Unused(1, 2, 3, 1001 + 1002 + 1003)
        assert index.sweep(clock.now + 1) == Swept(1, 2)
        assert index.condemn(clock.now + 1) == 3
        assert set(index.condemned()) == set(chunks(1, 2, 3))
        assert len(index.condemned(limit=2)) == 2
        assert index.unused(clock.now + 1) == Unused(0, 0, 3, 1001 + 1002 + 1003)
        assert index.bury(chunks(1, 2), files.remove) == 2
        assert list(index.condemned()) == chunks(3)
        assert files.present == {(chunk(3).name, Codec.RAW)}

    def test_the_grace_period_begins_when_a_content_is_let_go_of(self, index: Index, clock: Clock) -> None:
        version(index, "a", content(index, 1))
        clock.now = 5000.0
        index.drop_version("a")
        assert index.unused(5000.0) == Unused()
        assert collect(index, Files(), 5000.0) == 0
        assert index.unused(5001.0) == Unused(1, 1, 1, 1001)
        assert collect(index, Files(), 5001.0) == 1, "once for all that it was made of, not for each in turn"

    def test_a_content_that_is_replaced_is_let_go_of(self, index: Index, clock: Clock) -> None:
        version(index, "a", content(index, 1))
        clock.now = 5000.0
        version(index, "a", content(index, 2))
        assert collect(index, Files(), 5000.0) == 0
        assert collect(index, Files(), 5001.0) == 1

    def test_a_content_that_was_asked_for_is_left_for_a_while(self, index: Index, clock: Clock) -> None:
        parts = [content(index, 1), content(index, 2)]
        made = index.compose(parts)
        clock.now = 5000.0
        assert content(index, 1) == parts[0]
        assert index.compose(parts) == made
        assert index.sweep(5000.0) == Swept(manifests=1)
        version(index, "a", made)
        version(index, "b", parts[0])

    def test_chunks_that_other_leaves_have_stay(self, index: Index, clock: Clock) -> None:
        files = Files()
        version(index, "a", content(index, 1, 2))
        content(index, 2, 3)
        assert collect(index, files, clock.now + 1) == 1
        assert index.find_chunks([chunk(3).name]) == {}
        assert list(index.check()) == []

    def test_leaves_that_other_manifests_have_stay(self, index: Index, clock: Clock) -> None:
        parts = [content(index, 1), content(index, 2)]
        version(index, "final", index.compose(parts))
        assert index.unused(clock.now + 1) == Unused(manifests=2)
        assert index.sweep(clock.now + 1) == Swept(manifests=2)

    def test_many_of_each(self, index: Index, clock: Clock) -> None:
        kept = [content(index, n, n + 1, leaf=1) for n in range(0, 1200, 40)]
        for n, made in enumerate(kept):
            version(index, f"{n}", made)
        for n in range(1100):
            content(index, n)
        before = index.unused(clock.now + 1)
        swept = index.sweep(clock.now + 1)
        assert (before.manifests, before.leaves) == (swept.manifests, swept.leaves)
        assert before.manifests == 1100
        assert before.chunks == index.condemn(clock.now + 1)
        assert list(index.check()) == []
        assert all(index.is_whole(made) for made in kept)

    def test_damaged_chunks_go_too(self, index: Index, clock: Clock) -> None:
        store(index, chunks(1))
        index.mark_damaged([chunk(1).name])
        assert collect(index, Files(), clock.now + 1) == 1
        assert list(index.all_chunks()) == []

    def test_a_condemned_chunk_is_unknown_and_can_be_stored_again(self, index: Index, clock: Clock) -> None:
        files = Files()
        store(index, chunks(1))
        index.condemn(clock.now + 1)
        condemned = index.condemned()
        assert index.find_chunks([chunk(1).name]) == {}
        with pytest.raises(ChunksMissing):
            index.add_leaf(refs(chunks(1)))
        store(index, [chunk(1, Codec.ZSTD)])
        assert index.bury(condemned, files.remove) == 0
        assert index.find_chunks([chunk(1).name]) == {chunk(1).name: chunk(1, Codec.ZSTD)}

    def test_burying_removes_the_form_that_the_index_has_now(self, index: Index, clock: Clock) -> None:
        files = Files()
        files.write([chunk(1), chunk(1, Codec.ZSTD)])
        store(index, [chunk(1, Codec.ZSTD)])
        index.condemn(clock.now + 1)
        assert index.bury(chunks(1), files.remove) == 1
        assert files.present == {(chunk(1).name, Codec.RAW)}

    def test_burying_what_is_not_condemned_does_nothing(self, index: Index) -> None:
        store(index, chunks(1))
        assert index.bury(chunks(1, 2), Files().remove) == 0
        assert index.find_chunks([chunk(1).name])

    def test_an_error_while_removing_leaves_all_of_them_condemned(self, index: Index, clock: Clock) -> None:
        def fail_at_the_second(each: StoredChunk) -> None:
            removed.append(each)
            if len(removed) == 2:
                raise OSError("disk gone")

        removed: list[StoredChunk] = []
        store(index, chunks(1, 2, 3))
        index.condemn(clock.now + 1)
        with pytest.raises(OSError, match="disk gone"):
            index.bury(index.condemned(), fail_at_the_second)
        assert [state for _, state in index.all_chunks()] == [State.CONDEMNED] * 3
        assert index.bury(index.condemned(), Files().remove) == 3

    def test_files_without_a_row(self, index: Index, clock: Clock) -> None:
        files = Files()
        store(index, chunks(1, 2))
        index.mark_damaged([chunk(1).name])
        store(index, chunks(3))
        index.condemn(clock.now + 1)
        store(index, chunks(3))
        files.write([*chunks(1, 2, 3, 4), chunk(3, Codec.ZSTD)])
        looked_at = sorted(files.present)
        strange = {(chunk(4).name, Codec.RAW), (chunk(3).name, Codec.ZSTD)}
        assert set(index.without_row(looked_at, None)) == strange
        assert len(files.present) == 5
        assert set(index.without_row(looked_at, files.remove_form)) == strange
        assert files.present == {(each.name, Codec.RAW) for each in chunks(1, 2, 3)}

    def test_a_file_that_was_collected_before_its_chunk_was_added_is_written_again(self, index: Index) -> None:
        files = Files()
        files.write(chunks(1))
        index.without_row([(chunk(1).name, Codec.RAW)], files.remove_form)
        assert list(index.add_chunks(chunks(1), files.exists)) == chunks(1)

    def test_checking_tells_how_far_it_is(self, index: Index) -> None:
        version(index, "a", content(index, *range(10), leaf=1))
        told: list[int] = []
        assert list(index.check(told.append)) == []
        assert sum(told) >= 12, "ten leaves, a manifest and a version"

    def test_closing_twice(self, index: Index) -> None:
        add_content(index, ())
        index.close()
        index.close()
