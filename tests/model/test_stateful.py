"""Random sequences of requests, with the default settings and with limits. Rows of all sections of the checklist."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import TusMachine
from tests.support.server import ServerProcess

DEFAULT = settings(
    max_examples=300,
    stateful_step_count=30,
    deadline=None,  # other processes share the machine
    derandomize=bool(os.environ.get("CI")),  # a run of the same commit is the same run there
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),  # no shrinking: on a server that keeps its state it takes minutes; every step is printed
)
LONG = settings(DEFAULT, max_examples=2000, stateful_step_count=60, derandomize=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("model") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("limited") / "data", "-max-size=64", "-expiry=1h", "-workers=2") as server:
        yield server


@pytest.mark.timeout(600)
def test_any_sequence_of_requests(server: ServerProcess) -> None:
    run_state_machine_as_test(lambda: TusMachine(server), settings=DEFAULT)


@pytest.mark.timeout(600)
def test_any_sequence_of_requests_with_limits_and_workers(limited: ServerProcess) -> None:
    run_state_machine_as_test(lambda: TusMachine(limited, 64, expiry=True), settings=DEFAULT)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_long_sequences_of_requests(server: ServerProcess) -> None:
    run_state_machine_as_test(lambda: TusMachine(server), settings=LONG)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_long_sequences_of_requests_with_limits_and_workers(limited: ServerProcess) -> None:
    run_state_machine_as_test(lambda: TusMachine(limited, 64, expiry=True), settings=LONG)
