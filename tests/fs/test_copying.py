"""Bytes are copied exactly, whatever way the file systems allow."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

import tusd_py.fs.copying as module
from tusd_py.fs.copying import CopyStopped, copy_bytes
from tusd_py.ports.failures import StorageFailure

DATA = bytes(range(256)) * 4096 + b"end"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int]]:
    (tmp_path / "source").write_bytes(DATA)
    source = os.open(tmp_path / "source", os.O_RDONLY)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield source, target
    os.close(source)
    os.close(target)


def unsupported(number: int) -> Callable[..., int]:
    def fail(*args: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("ways", [module._WAYS, module._WAYS[-2:], module._WAYS[-1:]])
@pytest.mark.parametrize("piece", [module.PIECE, 1000])
def test_exactly_what_was_asked_for_is_copied(
    files: tuple[int, int], monkeypatch: pytest.MonkeyPatch, ways: tuple[module._Way, ...], piece: int
) -> None:
    monkeypatch.setattr(module, "_WAYS", ways)
    monkeypatch.setattr(module, "PIECE", piece)
    source, target = files
    os.pwrite(target, b"before", 0)
    copy_bytes(source, 10, target, 6, len(DATA) - 20, Event())
    assert os.pread(target, len(DATA) * 2, 0) == b"before" + DATA[10:-10]


@pytest.mark.parametrize("number", sorted(module._UNSUPPORTED))
def test_the_next_way_is_tried(files: tuple[int, int], monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(module, "_WAYS", (unsupported(number), unsupported(number), module._read_and_write))
    source, target = files
    copy_bytes(source, 0, target, 0, len(DATA), Event())
    assert os.pread(target, len(DATA) * 2, 0) == DATA


def test_a_real_failure_is_one(files: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAYS", (unsupported(errno.ENOSPC), module._read_and_write))
    with pytest.raises(OSError, match="No space"):
        copy_bytes(files[0], 0, files[1], 0, 1, Event())


def test_a_source_that_ends_early_is_a_failure(files: tuple[int, int]) -> None:
    with pytest.raises(StorageFailure, match="ends 1 bytes before"):
        copy_bytes(files[0], 0, files[1], 0, len(DATA) + 1, Event())


def test_a_stop_is_heeded_between_pieces(files: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Event()

    def piece(source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
        stop.set()
        return 1

    monkeypatch.setattr(module, "_WAYS", (piece,))
    with pytest.raises(CopyStopped):
        copy_bytes(files[0], 0, files[1], 0, len(DATA), stop)


def test_nothing_is_copied_by_nothing(files: tuple[int, int]) -> None:
    copy_bytes(files[0], 0, files[1], 0, 0, Event())
    assert os.fstat(files[1]).st_size == 0
