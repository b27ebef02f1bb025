"""Many who take in, let go and collect at once, in threads and in processes: nobody ever misses anything that is in use."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tusd_py_cas.model import State
from tusd_py_cas.sqlite_index import SqliteIndex

from tests.cas.index.support import chunks, open_index, store
from tests.cas.index.worker import FOREVER, DiskFiles, Worker

ROUNDS = 60
ROOT = Path(__file__).parents[3]


def start(directory: Path, name: str, seed: int, rounds: int, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cas.index.worker", str(directory), name, str(seed), str(rounds), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_sound(index: SqliteIndex, files: DiskFiles) -> None:
    """No reference dangles, and every chunk that counts as stored has its file."""
    assert list(index.check()) == []
    live = [each for each, state in index.all_chunks(limit=10_000) if state is State.LIVE]
    assert [each for each in live if not files.exists(each)] == []


def race(directory: Path, rounds: int) -> None:
    (directory / "files").mkdir()
    index = open_index(directory / "index.db")
    files = DiskFiles(directory / "files")
    workers = [Worker(index, files, f"thread{n}", n, lambda text: None) for n in range(3)]
    others = [start(directory, "process", 10, rounds), start(directory, "collector", 11, rounds, "collect")]
    try:
        with ThreadPoolExecutor(len(workers)) as pool:
            tasks = [pool.submit(worker.run, rounds, collecting=n == 0) for n, worker in enumerate(workers)]
            for task in tasks:
                task.result()
        for process in others:
            out, err = process.communicate(timeout=100)
            assert (process.returncode, out.splitlines()[-1:]) == (0, ["done"]), err
    finally:
        for process in others:
            process.kill()
            process.communicate()
    for worker in workers:
        worker.look()
    assert_sound(index, files)
    for upload_id in [each.upload_id for each in index.versions()]:
        index.drop_version(upload_id)
    workers[0].collect()
    assert index.totals() == type(index.totals())()
    assert files.walk() == []
    index.close()


def test_nothing_dangles_whoever_is_faster(tmp_path: Path) -> None:
    race(tmp_path, ROUNDS)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_dangles_whoever_is_faster_for_minutes(tmp_path: Path) -> None:
    race(tmp_path, 50 * ROUNDS)


def test_several_processes_take_in_the_same_at_once(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    open_index(tmp_path / "index.db").close()
    processes = [start(tmp_path, f"p{n}", 5, ROUNDS) for n in range(3)]  # the same seed: the same contents in the same order
    for process in processes:
        out, err = process.communicate(timeout=100)
        assert (process.returncode, out.splitlines()[-1:]) == (0, ["done"]), err
    index = open_index(tmp_path / "index.db", create=False)
    assert_sound(index, DiskFiles(tmp_path / "files"))
    names = [name for name in ("p0", "p1", "p2") if any(v.upload_id.startswith(name) for v in index.versions())]
    assert names == ["p0", "p1", "p2"]
    contents = {name: [v.manifest for v in index.versions() if v.upload_id.startswith(name)] for name in names}
    assert contents["p0"] == contents["p1"] == contents["p2"], "each is stored once"
    index.close()


def test_a_chunk_is_added_once_by_many_threads(tmp_path: Path) -> None:
    index = open_index(tmp_path / "index.db")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store(index, chunks(*range(n, n + 300))), range(0, 80, 10)))
    assert index.totals().chunks == 370
    index.sweep(FOREVER)
    assert index.condemn(FOREVER) == 370
    index.close()
