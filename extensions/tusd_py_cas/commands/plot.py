"""The sizes of chunks as a picture. Imported only where one is asked for: matplotlib is no dependency of the server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec

from tusd_py_cas.commands.outcomes import Failed
from tusd_py_cas.commands.texts import show_size

__all__ = ["check_plotting", "draw"]


def check_plotting() -> None:
    """Raises `Failed` where nothing can be drawn."""
    if find_spec("matplotlib") is None:
        raise Failed("--plot needs matplotlib, which is not installed: expected the extra `plot`, as in tusd-py[plot]")


def draw(path: str, bins: Sequence[tuple[int, int, int]]) -> None:
    """Write a PNG to `path`, where a file is replaced. Raises `Failed`, `OSError`."""
    if os.path.lexists(path) and not (os.path.isfile(path) or os.path.islink(path)):
        raise Failed(f"{path!r} is no file")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.bar([show_size(low) for low, _, _ in bins], [count for _, _, count in bins], width=0.9)
    axes.bar_label(bars, [str(count) if count else "" for _, _, count in bins])
    axes.tick_params("x", rotation=60)
    axes.set_xlabel("size of chunks, from here up to twice as much")
    axes.set_ylabel("chunks")
    temporary = f"{path}.{os.urandom(6).hex()}.tmp"
    try:
        figure.savefig(temporary, format="png", dpi=120)
        os.replace(temporary, path)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise
