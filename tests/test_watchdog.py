"""The watchdog itself: what it has to see, and that nothing of it goes unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import server as support
from tests.support.server import WATCHDOG, ServerProcess
from tests.support.watchdog import ALLOWED, ROOT, SMALL

PROGRAM = """
import asyncio, os, subprocess, sys, time, warnings
sys.path[0] = {root!r}
from tests.support import watchdog
from tusd_py.uploads.service import Uploads

number = os.open(os.devnull, os.O_RDWR)

async def nothing():
    pass

async def fail():
    raise ZeroDivisionError

def many():
    for _ in range({many}):
        os.path.islink("/")

class Writer:
    def write(self, data):
        pass

def hash_much():
    from tusd_py.uploads.receiving import _VerifyingSink
    _VerifyingSink(Writer(), {{}}).write(bytes({much}))

async def describe(self, upload_id, call=None, *, takeover):
    {defect}
    return await original(self, upload_id, takeover=takeover)

original, Uploads.describe = Uploads.describe, describe
watchdog.main()
"""

DEFECTS = {
    "time.sleep(0.001)": "time.sleep",
    "os.fsync(number)": "os.fsync",
    "open('/dev/null').close()": "builtins.open",
    "open('/dev/null')": "ResourceWarning",
    "subprocess.run(['true'])": "os.waitpid",
    "os.pwrite(number, b'x', 0)": "os.pwrite",
    "__import__('socket').getaddrinfo('localhost', 80)": "socket.getaddrinfo",
    "__import__('threading').Thread(target=time.sleep, args=(0.2,)).start() or __import__('threading').Event().wait(0.01)": (
        "lock.acquire"
    ),
    "hash_much()": "_VerifyingSink.write",
    "many()": "operations in one turn",
    "nothing()": "never awaited",
    "asyncio.get_running_loop().create_task(fail())": "was never retrieved",
    "warnings.warn('out of use', DeprecationWarning)": "Traceback",
    "1 / 0": "unexpected failure",
}


def broken_server(directory: Path, defect: str, *args: str, tolerate: tuple[str, ...] = ()) -> ServerProcess:
    """A watched server that does `defect` on every HEAD."""
    program = directory / "broken.py"
    program.write_text(PROGRAM.format(root=str(ROOT), defect=defect, many=1500, much=SMALL + 1))
    server = ServerProcess(directory / "data", *args, watchdog=True, tolerate=tolerate)
    server.program = [str(program)]
    return server


def head(server: ServerProcess) -> None:
    client = server.client()
    path = client.create(5)
    client.head(path)
    client.head(path)  # what a finalizer has to say comes by now


@pytest.mark.parametrize(("defect", "said"), DEFECTS.items(), ids=DEFECTS.values())
def test_a_defect_fails_the_test(tmp_path: Path, defect: str, said: str) -> None:
    with pytest.raises(AssertionError, match="the server complained"), broken_server(tmp_path, defect) as server:
        head(server)
    assert said in server.log


def test_a_defect_in_a_worker_fails_the_test(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"BLOCKED EVENT LOOP: time\.sleep"),
        broken_server(tmp_path, "time.sleep(0.001)", "-workers=2") as server,
    ):
        head(server)


def test_the_failure_of_the_test_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as raised, broken_server(tmp_path, "time.sleep(0.001)") as server:
        head(server)
        raise ZeroDivisionError
    assert any("BLOCKED EVENT LOOP" in note for note in raised.value.__notes__)


def test_what_is_tolerated_fails_no_test(tmp_path: Path) -> None:
    with broken_server(tmp_path, "time.sleep(0.001)", tolerate=("time.sleep",)) as server:
        head(server)
    assert "BLOCKED EVENT LOOP" in server.log


def test_a_server_without_defects_has_nothing_to_complain_of(tmp_path: Path) -> None:
    with broken_server(tmp_path, "pass") as server:
        head(server)
        assert server.program != [WATCHDOG]


def test_a_server_that_goes_on_is_checked_after_each_test(tmp_path: Path) -> None:
    with broken_server(tmp_path, "time.sleep(0.001)") as server:
        assert server in support.servers
        head(server)
        assert len(server.complaints()) == 1
        assert server.complaints() == [], "each is told once"


def test_everything_allowed_is_there() -> None:
    """A function that was renamed or removed leaves nothing behind that another could come to use."""
    for place in ALLOWED:
        module, _, name = place.partition(":")
        text = (ROOT / "tusd_py" / module).read_text()
        for part in name.split("."):
            assert f"def {part}(" in text or f"class {part}" in text, place
