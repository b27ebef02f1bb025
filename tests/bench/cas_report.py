"""What `cas.py` has measured, as a page: goals and whether they are met, tables, a plot."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FIGURES", "RANDOM", "Goal", "goals", "write_page", "write_plot"]

Results = Mapping[str, Any]
OURS = "tusd-py"
PEERS = ("restic", "borg")
RANDOM = "random"
"""The served file that restic and borg have read back too."""
FIGURES = frozenset({"machine", "corpus", "new", "known", "read", "size", "averages", "serving", "final", "in flight"})
COLOURS = {OURS: "#2a6", "restic": "#79b", "borg": "#b97"}
BUSY, IDLE, OFF = "-cas, ingest is busy", "-cas, nothing else to ingest", "without -cas"


@dataclass(frozen=True, slots=True)
class Goal:
    figure: str
    goal: str
    measured: str
    met: bool


# Goals


def goals(results: Results) -> list[Goal]:
    """Those of the issue, in its order."""
    return [
        *_of_ingest(results, "new", 400),
        *_of_ingest(results, "known", 800),
        *_of_size(results),
        *_of_reading(results),
        _of_memory(results),
        _of_finals(results),
        *_of_uploads(results),
    ]


def _of_ingest(results: Results, what: str, floor: int) -> Iterator[Goal]:
    rates = {tool: row["MB/CPU s"] for tool, row in results[what].items()}
    best = max(PEERS, key=lambda tool: rates[tool])
    ratio = rates[OURS] / rates[best]
    label = {"new": "new, incompressible", "known": "wholly known"}[what]
    yield Goal(f"ingest, {label}", "2x the faster per CPU second", f"{ratio:.2f}x ({best})", ratio >= 2)
    yield Goal(f"ingest, {label}", f"{floor} MB/s per core", f"{rates[OURS]:,.0f} MB/s", rates[OURS] >= floor)


def _of_size(results: Results) -> Iterator[Goal]:
    for kind, label in (("apparent", "bytes"), ("blocks", "blocks on disk")):
        totals = {tool: list(row["parts"].values())[-1][kind] for tool, row in results["size"].items()}
        best = min(PEERS, key=lambda tool: totals[tool])
        ratio = totals[OURS] / totals[best]
        yield Goal(f"stored size, {label}", "within 5 % of the better", f"{100 * (ratio - 1):+.1f} % ({best})", ratio <= 1.05)


def _of_reading(results: Results) -> Iterator[Goal]:
    dump = results["read"]["restic"]["MB/s"]
    ways = {"`cas cat`": results["read"][OURS]["MB/s"]}
    ways["GET"] = 1000 * results["serving"][RANDOM]["GB/s"]
    for way, rate in ways.items():
        yield Goal(f"read back by {way}", "2x restic's dump", f"{rate / dump:.2f}x", rate >= 2 * dump)
    for name, row in results["serving"].items():
        yield Goal(f"64 KiB ranges, {name}", "median under 5 ms", f"{row['range ms']:.2f} ms", row["range ms"] < 5)


def _of_memory(results: Results) -> Goal:
    found = {f"{what}: command": results[what][OURS]["peak MiB"] for what in ("new", "known", "read")}
    for where, row in (*results["serving"].items(), ("final upload", results["final"])):
        found |= {f"{where}: server": row["server MiB"], f"{where}: ingest": row["ingest MiB"]}
    found["corpus: command"] = results["size"][OURS]["peak MiB"]
    most = max(found, key=lambda which: found[which])
    return Goal("memory of any process", "at most 256 MiB", f"{found[most]:.0f} MiB ({most})", found[most] <= 256)


def _of_finals(results: Results) -> Goal:
    row = results["final"]
    return Goal(f"final POST of 4 parts, {row['GB']:.0f} GB", "under 50 ms", f"{row['ms']:.1f} ms", row["ms"] < 50)


def _of_uploads(results: Results) -> Iterator[Goal]:
    for place, rows in results["in flight"].items():
        for unit, label in (("GB/s", "large"), ("uploads/s", "small")):
            ratio, idle = rows[BUSY][unit] / rows[OFF][unit], rows[BUSY][unit] / rows[IDLE][unit]
            measured = f"{100 * ratio:.0f} % ({100 * idle:.0f} % of an idle -cas)"
            yield Goal(f"uploads while it ingests, {label}, {place}", "80 % of without -cas", measured, ratio >= 0.8)


# The page


def write_page(page: Path, results: Results) -> None:
    """Put the tables between the page's marks, and leave the rest of it as it is."""
    tables = "\n\n".join(_tables(results))
    text, count = re.subn(
        r"(?s)(<!-- tables -->\n).*(<!-- end -->)", lambda found: f"{found[1]}{tables}\n{found[2]}", page.read_text()
    )
    if count != 1:
        raise ValueError(f"{page} has no place for tables")
    page.write_text(text)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


def _rows(found: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    columns = list(next(iter(found.values())))
    return columns, [[name, *(_number(row[column]) for column in columns)] for name, row in found.items()]


def _tables(results: Results) -> Iterator[str]:
    machine = "; ".join(f"{name} {value}" for name, value in results["machine"].items())
    yield f"Measured on: {machine}."
    yield "### Goals"
    verdicts = [[goal.figure, goal.goal, goal.measured, "met" if goal.met else "**missed**"] for goal in goals(results)]
    yield _table(["figure", "goal", "measured", ""], verdicts)
    titles = {"new": "New incompressible data", "known": "Data wholly known", "read": "Read back, one file to /dev/null"}
    for key, title in titles.items():
        columns, rows = _rows(results[key])
        yield f"### {title}"
        yield _table(["tool", *columns], rows)
    yield "### Stored size of the corpus"
    yield f"Second version of the library: {results['corpus']}."
    yield _sizes(results["size"])
    columns, rows = _rows(results["averages"])
    yield "### Other sizes of chunks"
    yield _table(["average", *columns], rows)
    for key, title in (("serving", "Over HTTP"), ("in flight", "Uploads while it ingests")):
        yield f"### {title}"
        yield from (
            _by_place(results[key])
            if key == "in flight"
            else [_table(["file", *_rows(results[key])[0]], _rows(results[key])[1])]
        )
    yield "### Finishing a parallel upload"
    columns, rows = _rows({"final POST": results["final"]})
    yield _table(["", *columns], rows)


def _by_place(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    columns = list(next(iter(next(iter(found.values())).values())))
    rows = [
        [place, variant, *(_number(row[column]) for column in columns)]
        for place, variants in found.items()
        for variant, row in variants.items()
    ]
    yield _table(["where", "server", *columns], rows)


def _sizes(found: Mapping[str, Any]) -> str:
    """MB after each part, by tool: bytes, and in brackets blocks."""
    parts = list(next(iter(found.values()))["parts"])
    rows = []
    for part in parts:
        cells = [found[tool]["parts"][part] for tool in found]
        rows.append([part, *(f"{cell['apparent'] / 1e6:,.1f} ({cell['blocks'] / 1e6:,.1f})" for cell in cells)])
    rows += [[unit, *(_number(found[tool][unit]) for tool in found)] for unit in ("CPU s", "peak MiB")]
    return _table(["stored so far, MB (blocks)", *found], rows)


# The plot


def write_plot(target: Path, results: Results) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.4))
    _bars(
        axes[0], {f"{what}\n{tool}": (results[what][tool]["MB/CPU s"], tool) for what in ("new", "known") for tool in COLOURS}
    )
    axes[0].set_title("MB stored per second of CPU (more is better)", fontsize=9)
    for tool, row in results["size"].items():
        sizes = [cell["apparent"] / 1e6 for cell in row["parts"].values()]
        axes[1].plot(range(len(sizes)), sizes, label=tool, color=COLOURS[tool], marker=".")
    axes[1].set_xticks(range(len(sizes)), list(row["parts"]), rotation=40, ha="right", fontsize=6)
    axes[1].set_title("MB on disk, part after part (less is better)", fontsize=9)
    axes[1].legend(fontsize=7)
    speeds = {f"dump\n{tool}": (results["read"][tool]["MB/s"], tool) for tool in COLOURS}
    speeds |= {f"GET\n{name}": (1000 * row["GB/s"], OURS) for name, row in results["serving"].items()}
    _bars(axes[2], speeds)
    axes[2].set_title("MB/s read back (more is better)", fontsize=9)
    figure.tight_layout()
    figure.savefig(target, dpi=110)


def _bars(axis: Any, found: Mapping[str, tuple[float, str]]) -> None:
    names = list(found)[::-1]
    axis.barh(range(len(names)), [found[name][0] for name in names], color=[COLOURS[found[name][1]] for name in names])
    axis.set_yticks(range(len(names)), [name.replace("\n", ", ") for name in names], fontsize=7)
    axis.tick_params(axis="x", labelsize=7)
