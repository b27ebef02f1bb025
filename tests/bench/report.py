"""Runs every scenario of `load.py` and writes docs/explanation/benchmarks.json, .png and the table in benchmarks.md.

    .venv/bin/python tests/bench/report.py [--rounds 5] [--only bulk,small] [--disk DIR]

Needs wrk and nginx (Debian packages), 8 GB free in /dev/shm, and `--disk`, a directory on a real disk, for the scenarios that
sync. Takes about ten minutes. tusd's column is what was measured beside the same floor on such a machine (see the page).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs/explanation/benchmarks.md"
PYTHON = sys.executable
SERVER = f"{PYTHON} -m tusd_py -host=127.0.0.1 -port={{port}} -upload-dir={{dir}}"
FAST = f"{SERVER} -durability=none"
FLOOR = f"floor={PYTHON} {HERE}/peers/raw_floor.py {{port}} {{dir}}"
NGINX = f"behind nginx={PYTHON} {HERE}/peers/behind_nginx.py {{port}} {{dir}} {PYTHON} -m tusd_py -host=127.0.0.1"
NGINX += " -port={{port}} -upload-dir={{dir}} -durability=none"

# label: scenario, further arguments, servers. On tmpfs unless "disk".
RUNS: dict[str, tuple[str, list[str], list[str]]] = {
    "bulk": ("bulk", [], [f"tusd-py={FAST}", FLOOR]),
    "bulk, durable": ("bulk", [], [f"tusd-py={SERVER}"]),
    "bulk, 4 at once": ("bulk4", [], [f"tusd-py={FAST}", NGINX]),
    "bulk, behind nginx": ("bulk", [], [NGINX]),
    "sha1": ("sha1", [], [f"tusd-py={FAST}"]),
    "blake3": ("blake3", [], [f"tusd-py={FAST}"]),
    "small": ("small", [], [f"1 worker={FAST}", f"2 workers={FAST} -workers=2"]),
    "small, durable (disk)": ("small", [], [f"1 worker={SERVER}", f"2 workers={SERVER} -workers=2"]),
    "slow": ("slow", [], [f"tusd-py={FAST}"]),
    "concat": ("concat", ["--size=1e9"], [f"tusd-py={FAST}"]),
    "download": ("download", [], [f"tusd-py={FAST}"]),
    "takeover": ("takeover", [], [f"1 worker={FAST}", f"4 workers={FAST} -workers=4"]),
}

TUSD = {"bulk": (1.06, 1.0), "floor": (2.4, 0.40)}
"""GB/s and CPU s/GB of tusd and of the floor beside it; their ratio carries over to this machine's floor."""


def run(label: str, rounds: int, disk: str, results: Path) -> None:
    scenario, arguments, servers = RUNS[label]
    where = ["--dir", disk] if "disk" in label else []
    command = [PYTHON, str(HERE / "load.py"), scenario, "--rounds", str(rounds), "--json", str(results), "--label", label]
    subprocess.run([*command, *where, *arguments, *servers], check=True)


def sequential_syncs(disk: str) -> float:
    with tempfile.TemporaryDirectory(dir=disk) as directory:
        out = subprocess.run(
            [PYTHON, str(HERE / "peers/fsync_floor.py"), directory], check=True, capture_output=True, text=True
        )
    return float(out.stdout)


def table(results: dict[str, dict[str, object]]) -> str:
    lines = ["| scenario | server | figures (medians) |", "|---|---|---|"]
    for label, result in results.items():
        for server, row in result["servers"].items():  # type: ignore[attr-defined]
            figures = " · ".join(
                f"{value:,.2f} {unit}" if value < 100 else f"{value:,.0f} {unit}" for unit, value in row.items()
            )
            lines.append(f"| {label} | {server} | {figures} |")
    return "\n".join(lines)


def plot(results: dict[str, dict[str, object]], target: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    floor = results["bulk"]["servers"]["floor"]  # type: ignore[index]
    ours = results["bulk"]["servers"]["tusd-py"]  # type: ignore[index]
    scale_speed, scale_cpu = floor["GB/s"] / TUSD["floor"][0], floor["cpu s/GB"] / TUSD["floor"][1]
    names = ["floor", "tusd-py", "tusd (carried over)"]
    cpu = [floor["cpu s/GB"], ours["cpu s/GB"], TUSD["bulk"][1] * scale_cpu]
    speed = [floor["GB/s"], ours["GB/s"], TUSD["bulk"][0] * scale_speed]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3))
    left.barh(names, cpu, color=["#bbb", "#2a6", "#79b"])
    left.set_xlabel("server CPU seconds per GB, one 2 GB PATCH (less is better)")
    right.barh(names, speed, color=["#bbb", "#2a6", "#79b"])
    right.set_xlabel("GB/s over loopback (more is better)")
    figure.tight_layout()
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="labels of RUNS, separated by semicolons; the others keep their figures")
    parser.add_argument("--disk", default=os.getcwd(), help="a directory on a real disk")
    options = parser.parse_args()
    path = PAGE.with_suffix(".json")
    for label in options.only.split(";") if options.only else RUNS:
        run(label, options.rounds, options.disk, path)
    results = json.loads(path.read_text())
    if not options.only or "disk" in options.only:
        rate = sequential_syncs(options.disk)
        results["small, durable (disk)"]["servers"]["one sync after the other"] = {"uploads/s": rate}
        path.write_text(json.dumps(results, indent=1))
    ordered = {label: results[label] for label in RUNS if label in results}
    text = re.sub(
        r"(?s)(<!-- table -->\n).*(<!-- end -->)", lambda found: f"{found[1]}{table(ordered)}\n{found[2]}", PAGE.read_text()
    )
    PAGE.write_text(text)
    plot(ordered, PAGE.with_suffix(".png"))


if __name__ == "__main__":
    main()
