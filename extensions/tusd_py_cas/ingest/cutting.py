"""Where contents are cut: FastCDC (2020, normalized chunking 1) with the repository's secret seed.

Bytes come in windows, and the cuts do not depend on where these end. What makes that so, in `pyfastcdc`:

- The search for a cut starts anew behind each cut, so it depends on nothing in front of the chunk.
- It ends at the first byte where the hash of the 64 bytes up to and including that one fits, and cuts in front of that byte.
  So a cut depends on the chunk's bytes **and the first byte behind them**.
- Where no byte fits, the chunk is `max_size` long, whatever follows, or ends with the content.

So a chunk that ends before the window does, or that is `max_size` long, is final; another one has to be looked at again with
more bytes behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyfastcdc import FastCDC

from tusd_py_cas.model import ALGORITHM, Parameters, RepositoryError

__all__ = ["Cut", "Cutter"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A chunk in a window: where it begins there, its size, and its name where that has been found out already."""

    start: int
    size: int
    name: bytes | None = None

    @property
    def end(self) -> int:
        return self.start + self.size


class Cutter:
    """Cuts as the repository's parameters say. For one thread at a time. Raises `RepositoryError` for parameters of another
    kind."""

    def __init__(self, parameters: Parameters) -> None:
        if parameters.algorithm != ALGORITHM:
            raise RepositoryError(f"contents are cut by {parameters.algorithm!r}: this version knows only {ALGORITHM!r}")
        self.max_size = parameters.max_size
        try:
            self._fastcdc = FastCDC(
                parameters.avg_size,
                min_size=parameters.min_size,
                max_size=parameters.max_size,
                normalized_chunking=1,
                seed=parameters.seed,
            )
        except (ValueError, OverflowError) as error:
            raise RepositoryError(f"contents can't be cut by the repository's parameters: {error}") from error

    def first(self, window: memoryview) -> Cut:
        """The chunk that the window begins with, which has at least `max_size` bytes or is the whole content, and not empty."""
        return Cut(0, next(self._fastcdc.cut_buf(window)).length)

    def cut(self, window: memoryview, start: int = 0, *, at_end: bool) -> list[Cut]:
        """All final chunks from `start`, where a chunk begins. There is one at least if `max_size` bytes are left, or all."""
        cuts = []
        for chunk in self._fastcdc.cut_buf(window[start:]):
            cut = Cut(start + chunk.offset, chunk.length)
            if self._is_final(cut.size, cut.end < len(window) or at_end):
                cuts.append(cut)
        return cuts

    def _is_final(self, size: int, ends_inside: bool) -> bool:
        return ends_inside or size == self.max_size
