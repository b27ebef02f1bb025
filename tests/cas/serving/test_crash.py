"""The process ends at any moment of its work, and another one goes on: everything is whole."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cas.serving.support import NOISE, TEXT, Crash, Server
from tusd_py.ports.failures import UploadNotFound


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory, where there is one: this is about the order of things, and hundreds of repositories are made."""
    with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:
        yield Path(directory)
        close_files_below(directory)


def close_files_below(directory: str) -> None:
    """A process that ends takes along what it has open. One that only crashes in a test leaves it to the tests behind it."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own is closed by now
            if os.readlink(f"/proc/self/fd/{name}").startswith(f"{directory}/"):
                os.close(int(name))


Work = Callable[[Server], Awaitable[None]]

PIECES = (TEXT, NOISE, b"x")
NAMES = ("part0", "part1", "part2")
WHOLE = b"".join(PIECES)


async def crash_everywhere(directory: Path, mode: str, prepare: Work, work: Work, check: Work) -> None:
    """Do `work` and crash at each of its moments in turn, each time in a directory of its own; then do it again to the end in
    a new process, and `check`, at once after the crash too."""
    moment = 0
    while True:
        place = directory / str(moment)
        place.mkdir()
        async with Server(place, mode) as server:
            await prepare(server)
            server.opened._running = True
            server.faults.reset(moment)
            crashed = False
            try:
                await work(server)
            except Crash:
                crashed = True
            server.faults.reset()
        async with Server(place, mode, host=server.host) as again:
            again.opened._running = True
            await check(again)
            await work(again)
            await check(again)
            assert not list(again.repository.index.check()), moment
        if not crashed:
            assert moment > 5, "nothing was under the faults"
            return
        moment += 1


async def nothing(server: Server) -> None:
    pass


async def put(server: Server) -> None:
    await server.put("a", TEXT)


async def whole(server: Server) -> None:
    assert await server.read("a") == TEXT


@pytest.mark.parametrize("mode", ["keep", "replace"])
async def test_taking_in(memory: Path, mode: str) -> None:
    async def work(server: Server) -> None:
        await server.deliver("a")
        assert await server.is_served_from_chunks("a")
        assert len(server.host.events) == 1

    await crash_everywhere(memory, mode, put, work, whole)


async def test_replacing(memory: Path) -> None:
    async def prepare(server: Server) -> None:
        await server.take("a", TEXT)

    async def work(server: Server) -> None:
        if not await server.replace("a"):
            assert server.path("a").exists()
        await server.opened.replacer.look_around()
        assert not server.path("a").exists() and not server.repository.index.with_raw()

    await crash_everywhere(memory, "replace", prepare, work, whole)


async def test_replacing_what_is_damaged(memory: Path) -> None:
    async def prepare(server: Server) -> None:
        await server.take("a", TEXT)
        names = [chunk.name for chunk, _ in server.repository.index.all_chunks(limit=3)]
        server.repository.index.mark_damaged(names)
        for path in server.chunk_files():
            if bytes.fromhex(path.name[:64]) in names:
                path.unlink()

    async def work(server: Server) -> None:
        for _ in range(3):
            if await server.replace("a"):
                break
        assert not server.path("a").exists()

    async def check(server: Server) -> None:
        if server.path("a").exists():
            assert server.path("a").read_bytes() == TEXT
        else:
            await whole(server)

    await crash_everywhere(memory, "replace", prepare, work, check)


async def test_removing(memory: Path) -> None:
    async def prepare(server: Server) -> None:
        await server.take("a", TEXT)
        await server.take("other", TEXT)
        await server.replace("a")

    async def work(server: Server) -> None:
        if "a" in server.host.records:
            await server.remove("a")
        assert server.version("a") is None and not server.path("a").exists()

    async def check(server: Server) -> None:
        """There or not there, but nothing in between."""
        assert await server.read("other") == TEXT
        if "a" in server.host.records:
            try:
                assert await server.read("a") == TEXT
            except UploadNotFound:
                assert server.version("a") is None

    await crash_everywhere(memory, "replace", prepare, work, check)


async def take_partials(server: Server) -> None:
    for name, piece in zip(NAMES, PIECES, strict=True):
        await server.take(name, piece, is_partial=True)
    await server.begin_final("final", NAMES)


async def partials_are_whole(server: Server) -> None:
    for name, piece in zip(NAMES, PIECES, strict=True):
        assert await server.read(name) == piece
    if server.host.records["final"].finished:
        assert await server.read("final") == WHOLE


@pytest.mark.parametrize("mode", ["keep", "replace"])
async def test_putting_together(memory: Path, mode: str) -> None:
    async def work(server: Server) -> None:
        if not server.host.records["final"].finished:
            await server.assemble("final", NAMES)
        await server.deliver("final")
        assert await server.is_served_from_chunks("final")

    await crash_everywhere(memory, mode, take_partials, work, partials_are_whole)


async def test_copying_together(memory: Path) -> None:
    async def prepare(server: Server) -> None:
        await take_partials(server)
        for name in NAMES:
            assert await server.replace(name)

    async def work(server: Server) -> None:
        server.opened._running = False
        server.opened.joiner._replaces = False
        if not server.host.records["final"].finished:
            await server.assemble("final", NAMES)
        assert server.path("final").read_bytes() == WHOLE

    await crash_everywhere(memory, "replace", prepare, work, partials_are_whole)


async def test_adopting(memory: Path) -> None:
    async def prepare(server: Server) -> None:
        await server.put("a", TEXT)
        await server.put("b", NOISE)

    async def work(server: Server) -> None:
        assert await server.find()
        assert await server.is_served_from_chunks("a") and await server.is_served_from_chunks("b")

    await crash_everywhere(memory, "replace", prepare, work, whole)
