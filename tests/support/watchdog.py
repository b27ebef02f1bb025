"""Runs the server as `python -m tusd_py` would, and reports whatever blocks its event loop.

`python tests/support/watchdog.py ARGS...`; `tests.support.server` starts it instead of the plain command. blockbuster replaces
the functions that may block; here it is told about more of them, and instead of raising it writes `BLOCKED EVENT LOOP` and the
stack to stderr, once for each place, so that one run shows all. Forked workers inherit it.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from blockbuster import BlockBuster, BlockBusterFunction

ROOT = Path(__file__).resolve().parents[2]
MARK = "BLOCKED EVENT LOOP"

CONSTANTS = "WATCHDOG_CONSTANTS"
"""The variable of the environment that says what is set otherwise in the server."""

ADVICE = "Let a thread do it, or allow it in tests/support/watchdog.py and say why."

SMALL = 256 * 1024
"""Bytes that may be copied or hashed on the loop at once: in less time than a thread takes to hand over to and come back."""

SMALL_FILE = 64 * 1024 * 1024
"""Bytes of a file whose blocks may be freed on the loop; more takes ext4 milliseconds."""

MANY = 1000
"""Allowed operations in one turn of the loop: some 10 ms. However small each, a thousand of them are a block."""

# What the server does on the loop on purpose (docs/explanation/architecture.md, section 3): operations on the names and the
# metadata of files, and small copies to and from the page cache. They take microseconds; a thread would cost tens of them.
# Each by the function of tusd_py that makes the call, so that no other comes to do the same unnoticed, and its reason.
NAMES = "a name or the metadata of one file"
BYTES = "a small copy to or from the page cache"
ONCE = "once in a process"

ALLOWED: dict[str, dict[str, str]] = {
    # The bytes of an upload
    "datastore/filesystem.py:FilesystemStore.create": {"os.open": NAMES},
    "datastore/filesystem.py:FilesystemStore.open_writer": {"os.open": NAMES, "os.fstat": NAMES},
    "datastore/filesystem.py:FilesystemStore._open_for_reading": {"os.open": NAMES},
    "datastore/filesystem.py:FilesystemStore.remove": {"os.stat": NAMES, "os.unlink": NAMES},
    "datastore/filesystem.py:FileContent.__init__": {"os.fstat": NAMES},
    "datastore/file_writers.py:cut": {"os.ftruncate": NAMES},
    "datastore/file_writers.py:DirectWriter.write": {"os.pwrite": BYTES},
    "datastore/file_writers.py:DirectWriter._write_rest": {"os.pwrite": BYTES},
    "datastore/file_writers.py:StagedWriter._become": {"os.fstat": NAMES, "os.fchmod": NAMES},
    # Its record
    "infostore/tusd_dir.py:TusdDirectory._read": {"os.open": NAMES, "os.fstat": NAMES, "os.pread": BYTES},
    "infostore/tusd_dir.py:TusdDirectory._find_data": {"os.stat": NAMES},
    "infostore/tusd_dir.py:TusdDirectory._parse": {"os.lstat": NAMES},
    "infostore/tusd_dir.py:TusdDirectory.remove": {"os.unlink": NAMES},
    "infostore/tombstones.py:Tombstones.add": {"os.open": NAMES, "os.utime": NAMES},
    "infostore/tombstones.py:Tombstones.has": {"os.lstat": NAMES},
    "infostore/waiting.py:WaitingFinals._put": {"os.makedirs": NAMES, "os.mkdir": NAMES},
    "infostore/waiting.py:WaitingFinals._read": {"os.listdir": NAMES, "builtins.open": NAMES, "io.TextIOWrapper.read": BYTES},
    "infostore/waiting.py:WaitingFinals.remove": {"os.unlink": NAMES, "os.rmdir": NAMES},
    # A file that is written aside and renamed
    "fs/directories.py:_make_all": {"os.stat": NAMES},
    "fs/directories.py:_make_one": {"os.mkdir": NAMES, "os.stat": NAMES},
    "fs/replace.py:write_new": {"os.open": NAMES, "os.unlink": NAMES},
    "fs/replace.py:_publish_unnamed": {"os.open": NAMES, "os.link": NAMES},
    "fs/replace.py:_publish_named": {"os.link": NAMES},
    "fs/replace.py:_publish_over_placeholder": {"os.open": NAMES, "os.unlink": NAMES},
    "fs/replace.py:_proc_is_missing": {"os.stat": NAMES},
    "fs/temporary.py:TemporaryFile.__init__": {"os.open": NAMES},
    "fs/temporary.py:TemporaryFile.publish": {"os.rename": NAMES},
    "fs/temporary.py:TemporaryFile.discard": {"os.unlink": NAMES},
    "fs/temporary.py:write_all": {"os.pwrite": BYTES},
    "fs/intents.py:Intents.begin": {"os.symlink": NAMES, "os.unlink": NAMES},
    "fs/intents.py:Intents.end": {"os.access": NAMES, "os.unlink": NAMES},
    "fs/intents.py:Intents.measure": {"os.stat": NAMES, "os.access": NAMES, "os.readlink": NAMES},
    "fs/intents.py:Intents.offset": {"os.access": NAMES, "os.readlink": NAMES},
    # The last words of a process that is told to end at once
    "observability/line_writer.py:LineWriter.flush": {"lock.acquire": "it ends right behind this, and serves nobody any more"},
    # A hook that is a program
    "hooks/command.py:_is_there": {"os.lstat": NAMES},
    "hooks/processes.py:Process._reap": {"os.waitpid": "of a process that has ended"},
    # A thread of asyncio's that has told it is done, and ends
    "server/process.py:serve": {"lock.acquire": "the loop is closed, and serves nobody any more"},
    # Its lock
    "locker/kernel_locks.py:KernelLocks._open": {"os.open": ONCE},
    "locker/peers.py:Peers._start": {"os.open": ONCE, "os.rename": ONCE},
    "locker/peers.py:Peers.stop": {"os.unlink": ONCE},
    "locker/peers.py:Peers.forget": {"os.unlink": NAMES},
    "locker/peers.py:Peers.others": {"os.listdir": "as many names as there are processes"},
}

IMPORTING = frozenset({"_find_and_load", "_find_and_load_unlocked"})
"""What is loaded on first use is loaded on the loop, once in a process."""


def more_functions() -> Iterator[BlockBusterFunction]:
    """What blockbuster does not know by itself."""
    from tusd_py.uploads import receiving

    for name in (
        *("open", "fstat", "lstat", "pread", "pwrite", "preadv", "pwritev", "readv", "writev", "truncate", "ftruncate"),
        *("utime", "chmod", "fchmod", "chown", "makedirs", "fsync", "fdatasync", "sync", "posix_fadvise", "posix_fallocate"),
        *("copy_file_range", "splice", "fork", "system", "waitpid", "wait"),
    ):
        yield BlockBusterFunction(None, f"os.{name}")
    for name in ("fcntl.flock", "fcntl.lockf", "builtins.open", "io.open", "select.select"):
        yield BlockBusterFunction(None, name)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        yield BlockBusterFunction(None, f"socket.{name}")
    yield BlockBusterFunction(receiving._VerifyingSink, "write")  # hashing


def _descriptor_is_nonblocking(fd: int, *_: object) -> bool:
    return not os.get_blocking(fd)


def _asks_without_waiting(_fd: object, command: int, *_: object) -> bool:
    return bool(command & (fcntl.LOCK_NB | fcntl.LOCK_UN))


# Calls that never block, whoever makes them.
HARMLESS: dict[str, Callable[..., bool]] = {
    "os.readv": _descriptor_is_nonblocking,
    "os.writev": _descriptor_is_nonblocking,
    "fcntl.flock": _asks_without_waiting,
    "fcntl.lockf": _asks_without_waiting,
    "_VerifyingSink.write": lambda _sink, data: len(data) <= SMALL,
}


def _frees_little(path: object, *_: object, **__: object) -> bool:
    try:
        return os.lstat(path).st_size <= SMALL_FILE  # type: ignore[arg-type]
    except OSError:
        return True


# Where an allowed operation is small enough.
LIMITS: dict[str, Callable[..., bool]] = {
    # a record is bounded by the head of the request, which has the metadata: a few times a mebibyte, once in a blue moon
    "os.pwrite": lambda _fd, data, _offset: len(data) <= SMALL or bytes(data[:6]) == b'{"ID":',
    "os.unlink": _frees_little,
    "os.ftruncate": lambda fd, length: os.fstat(fd).st_size - length <= SMALL_FILE,
}


class Watchdog:
    """Judges the calls that blockbuster intercepts on a running event loop."""

    def __init__(self) -> None:
        self._reported: set[tuple[str, str]] = set()
        self._this_turn = 0

    def start(self) -> None:
        buster = BlockBuster()
        functions = [*buster.functions.values(), *more_functions()]
        for function in functions:
            function.can_block_predicate = self._predicate(function, function.can_block_predicate)
        for function in functions:
            function.activate()

    def _predicate(self, function: BlockBusterFunction, harmless: Callable[..., bool]) -> Callable[..., bool]:
        """blockbuster's question whether a call may block. It always may, but not without being reported."""

        def may_block(*args: Any, **kwargs: Any) -> bool:
            name = function.full_name
            if not harmless(*args, **kwargs) and not (name in HARMLESS and HARMLESS[name](*args, **kwargs)):
                frame = sys._getframe(2)  # behind this function and blockbuster's wrapper
                if not _is_allowed(frame, name, function.can_block_functions, args, kwargs):
                    self._report(frame, name, args)
                self._count(frame)
            return True

        return may_block

    def _count(self, frame: FrameType) -> None:
        self._this_turn += 1
        if self._this_turn == 1:
            asyncio.get_running_loop().call_soon(self._next_turn)
        elif self._this_turn == MANY:
            self._report(frame, f"{MANY} operations in one turn", ())

    def _next_turn(self) -> None:
        self._this_turn = 0

    def _report(self, frame: FrameType, name: str, args: tuple[Any, ...]) -> None:
        place = (name, _caller(frame))
        if place in self._reported:
            return
        self._reported.add(place)
        stack = "".join(traceback.format_stack(frame))
        shown = repr(args)[:200]
        os.write(2, f"{MARK}: {name}{shown} in {place[1]}\n{stack}{ADVICE}\n".encode(errors="replace"))


def _is_allowed(frame: FrameType, name: str, theirs: list[Any], args: Any, kwargs: Any) -> bool:
    if name in ALLOWED.get(_caller(frame), ()):
        return name not in LIMITS or LIMITS[name](*args, **kwargs)
    each: FrameType | None = frame
    while each is not None:
        function, file = each.f_code.co_name, each.f_code.co_filename
        if function in IMPORTING or any(file.endswith(ending) and function in names for ending, names in theirs):
            return True
        each = each.f_back
    return False


def _caller(frame: FrameType) -> str:
    """The innermost function of tusd_py on the stack, as in `ALLOWED`."""
    each: FrameType | None = frame
    while each is not None:
        _, inside, module = each.f_code.co_filename.rpartition("/tusd_py/")
        if inside:
            return f"{module}:{each.f_code.co_qualname}"
        each = each.f_back
    return f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"


def set_constants() -> None:
    """Shorten pauses that a test would wait out: those that the environment names, such as `package.module.LOOK=0.1`."""
    for each in os.environ.get(CONSTANTS, "").split():
        place, _, value = each.partition("=")
        module, _, name = place.rpartition(".")
        found = importlib.import_module(module)
        setattr(found, name, type(getattr(found, name))(value))


def main() -> None:
    """The command, watched."""
    from tusd_py.cli import main as serve

    set_constants()
    Watchdog().start()
    serve(sys.argv[1:])


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    main()
