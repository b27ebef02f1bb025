"""What the page on the benchmarks of content-addressed storage says follows from its figures."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.cas_report import FIGURES, goals, write_page
from tests.bench.cas_tools import disk_usage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "cas-benchmarks.md"


def of_tools(ours: float, restic: float, borg: float) -> dict[str, dict[str, float]]:
    rates = {"tusd-py": ours, "restic": restic, "borg": borg}
    return {tool: {"MB/s": rate, "MB/CPU s": rate, "peak MiB": 100.0} for tool, rate in rates.items()}


def sizes(apparent: int, blocks: int) -> dict[str, Any]:
    parts = {"first": {"apparent": 1, "blocks": 1}, "last": {"apparent": apparent, "blocks": blocks}}
    return {"parts": parts, "CPU s": 1.0, "peak MiB": 100.0}


SERVED = {"GB/s": 1.2, "CPU s/GB": 1.0, "range ms": 2.0, "range p99 ms": 3.0, "server MiB": 90.0, "ingest MiB": 200.0}
VARIANTS = ("without -cas", "-cas, nothing else to ingest", "-cas, ingest is busy")

GOOD: dict[str, Any] = {
    "machine": {"cores": "2"},
    "corpus": "edited",
    "new": of_tools(600, 150, 300),
    "known": of_tools(1600, 300, 800),
    "read": of_tools(800, 400, 300),
    "size": {"tusd-py": sizes(104, 105), "restic": sizes(100, 100), "borg": sizes(110, 110)},
    "averages": {"1M": {"stored MB": 600.0}},
    "serving": {"random": SERVED, "library.tar": dict(SERVED)},
    "final": {"GB": 10.0, "ms": 20.0, "slowest ms": 60.0, "server MiB": 90.0, "ingest MiB": 255.0},
    "in flight": {"on disk": {variant: {"GB/s": 1.0, "uploads/s": 1000.0} for variant in VARIANTS}},
}


def missed(results: dict[str, Any]) -> list[str]:
    return [goal.figure for goal in goals(results) if not goal.met]


def test_all_goals_are_met_where_they_are() -> None:
    assert GOOD.keys() == FIGURES
    assert missed(GOOD) == []
    assert len(goals(GOOD)) == 14


@pytest.mark.parametrize(
    ("path", "value", "figures"),
    [
        ("new/borg/MB|CPU s", 301.0, ["ingest, new, incompressible"]),
        ("new/tusd-py/MB|CPU s", 399.0, ["ingest, new, incompressible"] * 2),
        ("known/restic/MB|CPU s", 801.0, ["ingest, wholly known"]),
        ("size/borg/parts/last/apparent", 98, ["stored size, bytes"]),
        ("size/tusd-py/parts/last/blocks", 106, ["stored size, blocks on disk"]),
        ("read/restic/MB|s", 401.0, ["read back by `cas cat`"]),
        ("serving/random/GB|s", 0.79, ["read back by GET"]),
        ("serving/library.tar/range ms", 5.0, ["64 KiB ranges, library.tar"]),
        ("new/tusd-py/peak MiB", 257.0, ["memory of any process"]),
        ("serving/library.tar/ingest MiB", 257.0, ["memory of any process"]),
        ("size/tusd-py/peak MiB", 257.0, ["memory of any process"]),
        ("final/ingest MiB", 257.0, ["memory of any process"]),
        ("final/ms", 50.0, ["final POST of 4 parts, 10 GB"]),
        ("in flight/on disk/-cas, ingest is busy/GB|s", 0.79, ["uploads while it ingests, large, on disk"]),
        ("in flight/on disk/without -cas/uploads|s", 1300.0, ["uploads while it ingests, small, on disk"]),
    ],
)
def test_a_goal_is_missed_where_it_is(path: str, value: float, figures: list[str]) -> None:
    results = copy.deepcopy(GOOD)
    *way, last = (key.replace("|", "/") for key in path.split("/"))
    where = results
    for key in way:
        where = where[key]
    assert last in where
    where[last] = value
    assert missed(results) == figures


def test_the_page_keeps_its_text_and_gets_new_tables(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- tables -->\nold\n<!-- end -->\nafter\n")
    write_page(page, GOOD)
    text = page.read_text()
    assert text.startswith("before\n<!-- tables -->\n") and text.endswith("\n<!-- end -->\nafter\n") and "old" not in text
    assert "| final POST of 4 parts, 10 GB | under 50 ms | 20.0 ms | met |" in text
    write_page(page, GOOD)
    assert page.read_text() == text


def test_a_page_without_a_place_for_tables_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no place for tables"):
        write_page(page, GOOD)


def test_the_committed_page_has_the_tables_of_the_committed_figures(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    write_page(page, json.loads(PAGE.with_suffix(".json").read_text()))
    assert page.read_text() == PAGE.read_text()


def test_disk_usage_counts_bytes_and_blocks(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "small").write_bytes(b"1")
    (tmp_path / "below" / "large").write_bytes(b"1" * 10_000)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 20)
    found = disk_usage(tmp_path)
    assert found["apparent"] == (1 << 20) + 10_001
    assert 10_001 < found["blocks"] < 1 << 20
