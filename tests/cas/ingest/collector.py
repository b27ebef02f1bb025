"""Collects what nothing refers to, without any grace, until it is killed: run as a process by the tests.

    python -m tests.cas.ingest.collector REPOSITORY

After each time it prints how many chunks it has removed.
"""

from __future__ import annotations

import sys
import time

from tusd_py_cas.keeping.collecting import collect
from tusd_py_cas.repository import Repository


def main(path: str) -> None:
    repository = Repository.open(path, durable=False)
    while True:
        print(collect(repository, grace=0, now=time.time()).chunks, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
