"""What every index promises about leaves, manifests and reading them."""

from __future__ import annotations

import random

import pytest
from tusd_py_cas.index import Index
from tusd_py_cas.model import LEAF, ChunkRef, ChunksMissing, Codec, IndexDamaged, RepositoryError

from tests.cas.index.support import (
    Clock,
    Files,
    add_content,
    chunk,
    chunks,
    collect,
    content,
    digest,
    numbers_of,
    refs,
    store,
    version,
)


class ContentSuite:
    """Needs the fixtures `clock` and `index`, an empty one that tells the time by it."""

    def test_a_leaf_needs_live_chunks_and_tells_which_are_not(self, index: Index, clock: Clock) -> None:
        store(index, chunks(1, 2, 3))
        index.mark_damaged([chunk(2).name])
        with pytest.raises(ChunksMissing) as missing:
            index.add_leaf(refs(chunks(1, 2, 4)))
        assert missing.value.names == {chunk(2).name, chunk(4).name}
        index.condemn(clock.now + 1)
        with pytest.raises(ChunksMissing) as missing:
            index.add_leaf(refs(chunks(1)))
        assert missing.value.names == {chunk(1).name}

    def test_a_leaf_has_so_many_chunks_and_no_more(self, index: Index) -> None:
        store(index, chunks(1))
        for count in (0, LEAF + 1):
            with pytest.raises(ValueError, match="1 to 4096 chunks"):
                index.add_leaf(refs(chunks(1)) * count)
        assert index.add_leaf(refs(chunks(1)) * LEAF) != index.add_leaf(refs(chunks(1)) * LEAF)

    def test_a_leaf_of_other_sizes_means_damage(self, index: Index) -> None:
        store(index, chunks(1))
        with pytest.raises(IndexDamaged):
            index.add_leaf([ChunkRef(chunk(1).name, 7)])

    def test_a_content_is_found_by_its_name_and_is_what_was_added(self, index: Index, clock: Clock) -> None:
        made = content(index, 1, 2, 3)
        assert (made.name, made.blake3, made.sha256) == (digest([1, 2, 3]),) * 2 + (made.sha256,)
        assert (made.size, made.composed, made.created_at) == (1001 + 1002 + 1003, False, clock.now)
        assert index.find_manifest(made.name) == made
        assert index.find_manifest(bytes(32)) is None

    def test_the_same_content_again_is_the_same(self, index: Index, clock: Clock) -> None:
        made = content(index, 1, 2)
        clock.now += 50
        assert content(index, 1, 2) == made
        assert list(index.check()) == []

    def test_an_empty_content(self, index: Index) -> None:
        made = add_content(index, ())
        assert made.size == 0
        assert list(index.pieces(made)) == []
        assert index.is_whole(made)
        assert add_content(index, ()) == made

    def test_leaves_that_are_gone_or_are_of_another_size(self, index: Index, clock: Clock) -> None:
        store(index, chunks(1))
        leaf = index.add_leaf(refs(chunks(1)))
        with pytest.raises(ValueError, match="1001 bytes, the content 5"):
            index.add_manifest(size=5, blake3=bytes(32), sha256=bytes(32), leaves=[leaf])
        with pytest.raises(ValueError, match="32 bytes"):
            index.add_manifest(size=1001, blake3=bytes(31), sha256=bytes(32), leaves=[leaf])
        index.sweep(clock.now + 1)
        with pytest.raises(ChunksMissing):
            index.add_manifest(size=1001, blake3=bytes(32), sha256=bytes(32), leaves=[leaf])

    def test_ids_of_leaves_are_not_used_again(self, index: Index, clock: Clock) -> None:
        """Whoever has made a leaf holds its id for hours."""
        store(index, chunks(1, 2))
        old = index.add_leaf(refs(chunks(1)))
        index.sweep(clock.now + 1)
        assert index.add_leaf(refs(chunks(2))) != old

    def test_pieces_of_any_range(self, index: Index) -> None:
        numbers = random.Random(1).choices(range(300), k=1000)
        made = content(index, *numbers, leaf=130)
        starts = [0]
        for number in numbers:
            starts.append(starts[-1] + chunk(number).size)
        assert [(piece.start, piece.chunk) for piece in index.pieces(made)] == list(
            zip(starts[:-1], chunks(*numbers), strict=True)
        )
        edges = random.Random(2).choices(starts, k=30)
        for start in [0, made.size - 1, *edges, *(edge + 1 for edge in edges), *(max(0, edge - 1) for edge in edges)]:
            for end in (start + 1, start + 1000, *edges[:5], start + 100_000, made.size, None, made.size + 10):
                last = made.size if end is None else min(end, made.size)
                expected = [n for n in range(1000) if starts[n] < last and starts[n + 1] > start and start < last]
                assert [piece.start for piece in index.pieces(made, start, end)] == [starts[n] for n in expected], (start, end)

    def test_pieces_of_no_range(self, index: Index) -> None:
        made = content(index, 1)
        for start, end in [(0, 0), (5, 5), (7, 3), (1001, None), (5000, 6000)]:
            assert list(index.pieces(made, start, end)) == []
        with pytest.raises(ValueError, match="byte -1"):
            index.pieces(made, -1)

    def test_pieces_tell_how_chunks_are_stored_now(self, index: Index) -> None:
        made = content(index, 1, 2)
        assert [piece.chunk.codec for piece in index.pieces(made)] == [Codec.RAW, Codec.RAW]
        index.mark_damaged([chunk(1).name])
        assert numbers_of(index.pieces(made)) == [1, 2], "what is damaged is among them"
        store(index, [chunk(1, Codec.ZSTD)])
        assert [piece.chunk.codec for piece in index.pieces(made)] == [Codec.ZSTD, Codec.RAW]

    def test_reading_goes_on_while_others_write(self, index: Index) -> None:
        made = content(index, *range(1000))
        seen = []
        for count, piece in enumerate(index.pieces(made)):
            seen.append(piece)
            if count % 100 == 0:
                content(index, 1500 + count)
        assert numbers_of(seen) == list(range(1000))

    def test_a_content_that_is_gone_can_not_be_read(self, index: Index, clock: Clock) -> None:
        made = content(index, 1, 2)
        assert len(list(index.pieces(made))) == 2
        collect(index, Files(), clock.now + 1)
        for ask in (lambda: list(index.pieces(made)), lambda: index.is_whole(made)):
            with pytest.raises(RepositoryError, match="not stored any more"):
                ask()
        for give in (lambda: index.compose([made]), lambda: version(index, "a", made)):
            with pytest.raises(ChunksMissing):
                give()
        assert index.find_manifest(made.name) is None

    def test_a_content_that_is_stored_again_is_another(self, index: Index, clock: Clock) -> None:
        made = content(index, 1, 2)
        collect(index, Files(), clock.now + 1)
        again = content(index, 1, 2)
        assert again.id != made.id
        with pytest.raises(RepositoryError):
            list(index.pieces(made))
        assert numbers_of(index.pieces(again)) == [1, 2]

    def test_whole_means_that_all_chunks_are_live(self, index: Index) -> None:
        made = content(index, *range(10), leaf=3)
        assert index.is_whole(made)
        index.mark_damaged([chunk(9).name])
        assert not index.is_whole(made)
        store(index, chunks(9))
        assert index.is_whole(made)

    def test_contents_one_behind_the_other(self, index: Index, clock: Clock) -> None:
        parts = [content(index, 1, 2, 3, leaf=2), content(index, 4), content(index, 1, 2, 3, leaf=2)]
        made = index.compose(parts)
        assert (made.size, made.blake3, made.sha256, made.composed) == (sum(p.size for p in parts), None, None, True)
        assert numbers_of(index.pieces(made)) == [1, 2, 3, 4, 1, 2, 3]
        assert [piece.start for piece in index.pieces(made)] == [0, 1001, 2003, 3006, 4010, 5011, 6013]
        assert index.compose(parts) == made == index.find_manifest(made.name)
        assert index.compose(parts[::-1]) == made
        assert index.compose(parts[:2]).name != index.compose(parts[1::-1]).name
        version(index, "final", made)
        collect(index, Files(), clock.now + 1)
        assert numbers_of(index.pieces(made)) == [1, 2, 3, 4, 1, 2, 3], "it does not need what it was made of"
        assert list(index.check()) == []

    def test_contents_of_composed_contents(self, index: Index) -> None:
        inner = index.compose([content(index, 1), content(index, 2)])
        made = index.compose([content(index, 3), inner, inner])
        assert numbers_of(index.pieces(made)) == [3, 1, 2, 1, 2]

    def test_one_content_alone_and_empty_ones_make_no_other(self, index: Index) -> None:
        empty, one = add_content(index, ()), content(index, 1)
        assert index.compose([one]) == index.compose([empty, one, empty]) == one
        assert index.compose([empty, empty]) == empty
        with pytest.raises(ValueError, match="made of nothing"):
            index.compose([])

    def test_composing_needs_all_parts(self, index: Index, clock: Clock) -> None:
        gone = content(index, 1)
        collect(index, Files(), clock.now + 1)
        with pytest.raises(ChunksMissing):
            index.compose([content(index, 2), gone])

    def test_digests_of_what_was_composed(self, index: Index, clock: Clock) -> None:
        made = index.compose([content(index, 1), content(index, 2)])
        index.set_digests(made, blake3=b"b" * 32, sha256=b"s" * 32)
        index.set_digests(made, blake3=b"b" * 32, sha256=b"s" * 32)
        found = index.find_manifest(made.name)
        assert found is not None
        assert (found.blake3, found.sha256, found.name) == (b"b" * 32, b"s" * 32, made.name)
        assert numbers_of(index.pieces(made)) == [1, 2], "who knows it from before can go on"
        assert list(index.check()) == []
        collect(index, Files(), clock.now + 1)
        with pytest.raises(RepositoryError, match="not stored any more"):
            index.set_digests(made, blake3=b"b" * 32, sha256=b"s" * 32)

    def test_digests_of_other_contents_do_not_change(self, index: Index) -> None:
        made = content(index, 1)
        with pytest.raises(ValueError, match="other digests"):
            index.set_digests(made, blake3=b"b" * 32, sha256=b"s" * 32)
        with pytest.raises(ValueError, match="32 bytes"):
            index.set_digests(made, blake3=b"", sha256=b"s" * 32)

    def test_contents_whose_digests_are_wanted(self, index: Index) -> None:
        parts = [content(index, n) for n in range(4)]
        made = [index.compose(parts[n : n + 2]) for n in range(3)]
        for n in (0, 1):
            version(index, f"{n}", made[n])
        assert list(index.undigested()) == made[:2], "nobody wants to know of the third"
        assert list(index.undigested(1)) == made[:1]
        index.set_digests(made[0], blake3=bytes(32), sha256=bytes(32))
        assert list(index.undigested()) == made[1:2]

    def test_a_content_that_starts_with_a_chunk(self, index: Index) -> None:
        first, second = content(index, 1, 2, leaf=1), content(index, 1, 3)
        index.compose([first, second])
        content(index, 2, 1)
        assert index.find_content_starting_with(chunk(1).name, first.size) == first
        assert index.find_content_starting_with(chunk(1).name, second.size) == second
        assert index.find_content_starting_with(chunk(1).name, 0) in (first, second)
        assert index.find_content_starting_with(chunk(3).name, second.size) is None
        assert index.find_content_starting_with(chunk(9).name, 0) is None
