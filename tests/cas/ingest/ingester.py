"""Takes contents in and makes them versions, again and again, until it is killed: run as a process by the tests.

    python -m tests.cas.ingest.ingester REPOSITORY FOLDER DURABLE SEED

Each file of the folder becomes a version, in an order of the seed's, several at once; then everything is dropped and it begins
again. A line is printed at the beginning, and after each version. A collector that is always faster is no failure.
"""

from __future__ import annotations

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tusd_py_cas.ingest.engine import Engine
from tusd_py_cas.repository import Repository

from tests.cas.ingest.taking import make_version
from tusd_py.ports.failures import StorageFailure


def main(path: str, folder: str, durable: str, seed: str) -> None:
    repository = Repository.open(path, durable=durable == "1")
    engine = Engine(repository, threads=2)
    chance = random.Random(int(seed))
    files = sorted(Path(folder).iterdir())

    def take(file: Path) -> None:
        try:
            make_version(repository, engine, file, f"{seed} {file.name}")
        except StorageFailure as failure:
            assert "give collection more grace" in str(failure), failure
        print(file.name, flush=True)

    print("begins", flush=True)
    with ThreadPoolExecutor(3) as pool:
        while True:
            chance.shuffle(files)
            list(pool.map(take, files))
            for file in files:
                repository.index.drop_version(f"{seed} {file.name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
