"""`repository.json`: what is refused, and that its secret is made once."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyfastcdc import FastCDC
from tusd_py_cas import description as module
from tusd_py_cas.description import create_description, new_parameters, read_description
from tusd_py_cas.layout import Layout
from tusd_py_cas.model import Parameters, RepositoryError


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "tmp").mkdir()
    return Layout(str(tmp_path))


def chunker(parameters: Parameters) -> FastCDC:
    return FastCDC(parameters.avg_size, min_size=parameters.min_size, max_size=parameters.max_size, seed=parameters.seed)


@pytest.mark.parametrize("avg_size", [64 << 10, 1 << 20, 4 << 20])
def test_new_parameters_are_ones_the_chunker_takes(avg_size: int) -> None:
    parameters = new_parameters(avg_size)
    assert (parameters.min_size, parameters.avg_size, parameters.max_size) == (avg_size // 4, avg_size, avg_size * 4)
    chunker(parameters)
    chunker(replace(parameters, seed=(1 << 63) - 1))


def test_seeds_are_secrets() -> None:
    assert len({new_parameters().seed for _ in range(50)}) == 50
    assert all(0 < new_parameters().seed < 1 << 63 for _ in range(50))


@pytest.mark.parametrize("avg_size", [-1, 0, 1, 32 << 10, (64 << 10) + 1, 3 << 20, 8 << 20])
def test_other_averages_are_refused(avg_size: int) -> None:
    with pytest.raises(ValueError, match=f"^chunks can't have {avg_size} bytes on average: expected a power of two"):
        new_parameters(avg_size)


def test_what_was_written_is_read(layout: Layout) -> None:
    assert read_description(layout) is None
    parameters = new_parameters(1 << 16)
    made = create_description(layout, parameters, durable=True)
    assert made.parameters == parameters
    assert read_description(layout) == made
    assert os.stat(layout.description).st_mode & 0o777 == 0o600
    assert os.listdir(layout.temporary) == []


def test_the_secret_is_not_shown(layout: Layout) -> None:
    made = create_description(layout, new_parameters(), durable=True)
    assert str(made.parameters.seed) not in repr(made)
    assert str(made.parameters.seed) not in str(made)


def test_the_first_description_stays(layout: Layout) -> None:
    first = create_description(layout, new_parameters(), durable=True)
    assert create_description(layout, new_parameters(), durable=True) == first


def test_of_those_who_make_it_at_once_all_get_the_same(layout: Layout) -> None:
    for _ in range(20):
        together = threading.Barrier(8)

        def make(_: int, together: threading.Barrier = together) -> module.Description:
            parameters = new_parameters()
            together.wait()
            return create_description(layout, parameters, durable=True)

        with ThreadPoolExecutor(8) as pool:
            made = set(pool.map(make, range(8)))
        assert made == {read_description(layout)}
        assert os.listdir(layout.temporary) == []
        os.unlink(layout.description)


@pytest.mark.parametrize(
    "change",
    [
        {"min_size": 63},
        {"avg_size": 8 << 20},
        {"max_size": 17 << 20},
        {"min_size": 1 << 18, "avg_size": 1 << 16},
        {"seed": -1},
        {"seed": 1 << 63},
        {"algorithm": "rabin"},
        {"min_size": "4096"},
    ],
    ids=str,
)
def test_parameters_that_can_not_be_used_are_refused(layout: Layout, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|has to be|have to be|contents are cut|not all numbers"):
        create_description(layout, replace(new_parameters(), **change), durable=True)
    assert not os.path.exists(layout.description)


def set_format(content: dict[str, Any]) -> None:
    content["format"] = 2


def set_algorithm(content: dict[str, Any]) -> None:
    content["parameters"]["algorithm"] = "rabin"


def set_size(content: dict[str, Any]) -> None:
    content["parameters"]["avg_size"] = 1


def add_parameter(content: dict[str, Any]) -> None:
    content["parameters"]["level"] = 1


def drop_seed(content: dict[str, Any]) -> None:
    del content["parameters"]["seed"]


def drop_parameters(content: dict[str, Any]) -> None:
    content["parameters"] = None


def drop_id(content: dict[str, Any]) -> None:
    del content["id"]


def drop_format(content: dict[str, Any]) -> None:
    del content["format"]


@pytest.mark.parametrize(
    ("change", "objection"),
    [
        (set_format, "format is 2, but this version of tusd-py knows only 1"),
        (drop_format, "which format"),
        (set_algorithm, "'rabin'"),
        (set_size, "avg_size is 1 bytes"),
        (add_parameter, "lacks something"),
        (drop_seed, "lacks something"),
        (drop_parameters, "lacks something"),
        (drop_id, "lacks something"),
    ],
)
def test_what_is_not_understood_is_refused(layout: Layout, change: Callable[[dict[str, Any]], None], objection: str) -> None:
    create_description(layout, new_parameters(), durable=True)
    path = Path(layout.description)
    content = json.loads(path.read_text())
    del content["seal"]
    change(content)
    path.write_text(json.dumps({**content, "seal": module._seal(content)}))
    with pytest.raises(RepositoryError, match=objection) as refusal:
        read_description(layout)
    assert layout.description in str(refusal.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"[" * 60_000, b"\xff", b'{"format": true}', b"0" * 70_000])
def test_what_is_no_description_is_refused(layout: Layout, text: bytes) -> None:
    Path(layout.description).write_bytes(text)
    with pytest.raises(RepositoryError, match="restore it from a backup"):
        read_description(layout)


def test_a_flipped_bit_is_found_wherever_it_is(layout: Layout) -> None:
    """But in the white space. A changed seed would go unnoticed otherwise, and nothing would be found stored already."""
    made = create_description(layout, new_parameters(), durable=True)
    path = Path(layout.description)
    text = path.read_bytes()
    for at in range(len(text)):
        path.write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
        try:
            assert read_description(layout) == made
            assert text[at : at + 1].isspace(), text[at - 10 : at + 10]
        except RepositoryError:
            pass


def test_no_description_is_waited_for(layout: Layout) -> None:
    os.mkfifo(layout.description)
    with pytest.raises(RepositoryError, match="no JSON"):
        read_description(layout)
