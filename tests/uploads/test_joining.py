"""Several contents as one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.ports.datastore import Extent
from tusd_py.uploads.joining import JoinedContent


class Piece:
    """A content; `file` is where its bytes are, if anywhere."""

    def __init__(self, data: bytes, file: int | None = None, *, version: str = "v", modified: float = 0.0) -> None:
        self._data, self._file = data, file
        self.size, self.version, self.modified = len(data), version, modified
        self.closed = 0

    def extents(self, offset: int, count: int) -> Sequence[Extent] | None:
        assert offset >= 0 and 0 < count <= self.size - offset
        return None if self._file is None else [(self._file, offset, count)]

    async def read(self, offset: int, count: int) -> bytes:
        assert 0 <= offset < self.size
        return self._data[offset : offset + count]

    async def close(self) -> None:
        self.closed += 1


@given(
    pieces=st.lists(st.binary(max_size=6), max_size=6),
    offset=st.integers(0, 40),
    count=st.integers(1, 40),
)
def test_extents_are_the_same_bytes(pieces: list[bytes], offset: int, count: int) -> None:
    joined = JoinedContent([Piece(data, file) for file, data in enumerate(pieces)])
    whole = b"".join(pieces)
    assert joined.size == len(whole)
    found = joined.extents(offset, count)
    assert found is not None
    assert b"".join(pieces[file][start : start + size] for file, start, size in found) == whole[offset : offset + count]


@pytest.mark.parametrize("pieces", [[], [b""], [b"abc"], [b"ab", b"", b"cde", b"f"]])
async def test_reading_from_anywhere(pieces: list[bytes]) -> None:
    joined = JoinedContent(list(map(Piece, pieces)))
    whole = b"".join(pieces)
    for offset in range(len(whole) + 2):
        data = b""
        while piece := await joined.read(offset + len(data), 2):
            assert len(piece) <= 2
            data += piece
        assert data == whole[offset:]


def test_no_extents_where_a_piece_has_none() -> None:
    joined = JoinedContent([Piece(b"ab", 3), Piece(b"cd")])
    assert joined.extents(0, 4) is None
    assert joined.extents(0, 2) == [(3, 0, 2)]


def test_the_version_is_that_of_all_pieces() -> None:
    def version(*versions: str) -> str:
        return JoinedContent([Piece(b"x", version=each) for each in versions]).version

    assert version("a", "b") == version("a", "b")
    assert len({version("a", "b"), version("b", "a"), version("a"), version("ab"), version()}) == 5
    assert version("a").isalnum()


def test_the_newest_change_counts() -> None:
    assert JoinedContent([Piece(b"", modified=5.0), Piece(b"", modified=7.5), Piece(b"")]).modified == 7.5
    assert JoinedContent([]).modified == 0.0


async def test_all_are_closed() -> None:
    pieces = [Piece(b"a"), Piece(b"b")]
    joined = JoinedContent(pieces)
    assert repr(joined) == "<JoinedContent of 2, 2 bytes>"
    await joined.close()
    assert [piece.closed for piece in pieces] == [1, 1]
