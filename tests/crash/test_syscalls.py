"""Every system call by which the server writes, made to fail: each kind, each occurrence in the course of each request."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.scripts import SCRIPTS, Script
from tests.crash.strace import FILLING, PLACING, SYNCING, WRITING, Call, Strace, requires_strace
from tests.support.server import ServerProcess
from tests.support.wire import Answer

TRIES = 4  # which thread makes a call, and after how many others, is not the same each time


@dataclass(frozen=True)
class Fault:
    """What strace does to a call, which calls it is tried on, and the refusal it has to become unless it was overcome."""

    injection: str
    calls: tuple[str, ...]
    status: int = 0
    code: str = ""

    @property
    def kills(self) -> bool:
        return "SIGKILL" in self.injection


SPACE = tuple(name for name in WRITING if not name.startswith("unlink") and name != "ftruncate")
BROKEN = (500, "ERR_INTERNAL_SERVER_ERROR")
FULL = (507, "ERR_INSUFFICIENT_STORAGE")

FAULTS = {
    "ENOSPC": Fault("error=ENOSPC", SPACE, *FULL),
    "EIO": Fault("error=EIO", WRITING, *BROKEN),
    "SIGKILL": Fault("signal=SIGKILL", WRITING),
    "EDQUOT": Fault("error=EDQUOT", SPACE, *FULL),
    "EROFS": Fault("error=EROFS", PLACING, 507, "ERR_STORAGE_READ_ONLY"),
    "EINTR": Fault("error=EINTR", (*FILLING, *SYNCING), *BROKEN),
    "nothing-written": Fault("retval=0", ("write", "pwrite64", "copy_file_range", "sendfile"), *BROKEN),
}
ORDINARY = ("ENOSPC", "EIO", "SIGKILL")


class Bench:
    """A server for the scripts that are run with the same options, and what each script's calls were undisturbed."""

    def __init__(self, directory: Path, args: tuple[str, ...]) -> None:
        self.directory = directory
        self.server = ServerProcess(directory, *args)
        self.discovered: dict[str, list[Call]] = {}

    def script(self, kind: type[Script], case: str) -> Script:
        """A script ready to act, on a server that runs."""
        if self.server.process is None or self.server.process.poll() is not None:
            self.server.start()
        script = kind(self.server.client(), self.directory, random.Random(case))
        script.prepare()
        return script

    def restart(self, script: Script) -> None:
        self.server.kill()
        self.server.start()
        script.tus = self.server.client()

    def discover(self, kind: type[Script]) -> list[Call]:
        """The calls by which the request writes to the upload directory, one of each name and number."""
        if kind.name not in self.discovered:
            script = self.script(kind, "discovery")
            with Strace(self.server.pid, WRITING) as strace:
                answer = script.act()
            assert answer.status < 300, f"undisturbed: {answer.status} {answer.body!r}"
            script.settle(answer)
            calls = [call for call in strace.calls if call.creates and call.concerns(self.directory)]
            self.discovered[kind.name] = list({(call.name, call.nth): call for call in calls}.values())
        return self.discovered[kind.name]


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, ...], Bench]]:
    requires_strace()
    kinds = {kind.args for kind in SCRIPTS.values()}
    found = {args: Bench(tmp_path_factory.mktemp("syscalls") / "data", args) for args in kinds}
    yield found
    for bench in found.values():
        bench.server.kill()


def act(script: Script) -> Answer | None:
    try:
        return script.act()
    except OSError:
        return None


def struck(bench: Bench, fault: Fault, target: Call, calls: list[Call]) -> list[Call]:
    """The calls that the fault has hit; none if any of them was not on the upload directory."""
    if fault.kills:
        hit = [call for call in calls if (call.name, call.nth) == (target.name, target.nth) and "= ?" in call.text]
    else:
        hit = [call for call in calls if call.injected]
    return hit if all(call.creates and call.concerns(bench.directory) for call in hit) else []


def judge(script: Script, fault: Fault, hit: list[Call], answer: Answer | None) -> None:
    """A fault is overcome or told; it is never overlooked and never a riddle."""
    if fault.kills or not script.may_fail:
        return
    assert answer is not None, "no answer"
    if answer.status >= 300:
        assert (answer.status, answer.text.split(":")[0]) == (fault.status, fault.code), f"{answer.status} {answer.text!r}"
    elif fault.injection != "error=EINTR":
        unsynced = [str(call) for call in hit if call.name in SYNCING and script.owes(call.text)]
        assert not unsynced, f"{answer.status}, though this failed: {unsynced}"


def run_case(bench: Bench, kind: type[Script], fault: Fault, target: Call, *, restart: bool) -> Script | None:
    """The script with this one call failing. None if the fault could not be brought to hit that call and no other."""
    for _ in range(TRIES):
        script = bench.script(kind, f"{kind.name} {target.name} {target.nth}")
        with Strace(bench.server.pid, WRITING, f"{target.name}:{fault.injection}:when={target.nth}") as strace:
            answer = act(script)
            if fault.kills and answer is None:
                strace.outlast()
        if fault.kills or restart:
            bench.restart(script)
        if hit := struck(bench, fault, target, strace.calls):
            judge(script, fault, hit, answer)
            script.settle(answer)
            return script
    return None


def run_all(bench: Bench, kind: type[Script], fault: Fault, subtests: pytest.Subtests, *, restart: bool = False) -> None:
    targets = [call for call in bench.discover(kind) if call.name in fault.calls]
    done: list[Script] = []
    for target in targets:
        with subtests.test(f"{target.name}#{target.nth}", call=str(target)):
            script = run_case(bench, kind, fault, target, restart=restart)
            if script is None:
                pytest.skip("the request did without this call, every time")
            done.append(script)
    assert done or not targets, "no fault has hit anything"
    if done:
        bench.restart(done[-1])
        for script in done:
            for path, source in script.complete:
                assert bench.server.client().offset(path) == len(source), f"{path} is not complete after a restart"


@pytest.mark.parametrize("fault", ORDINARY)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_failing_call_leaves_the_old_state_or_the_new(
    benches: dict[tuple[str, ...], Bench], script: str, fault: str, subtests: pytest.Subtests
) -> None:
    kind = SCRIPTS[script]
    run_all(benches[kind.args], kind, FAULTS[fault], subtests)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_failing_call_and_a_restart_leave_the_old_state_or_the_new(
    benches: dict[tuple[str, ...], Bench], script: str, fault: str, subtests: pytest.Subtests
) -> None:
    kind = SCRIPTS[script]
    run_all(benches[kind.args], kind, FAULTS[fault], subtests, restart=True)


@pytest.mark.parametrize("script", sorted(set(SCRIPTS) - {"head"}))
def test_every_script_writes(benches: dict[tuple[str, ...], Bench], script: str) -> None:
    """The other tests find the calls to disturb by looking: this one fails if they look in the wrong place."""
    kind = SCRIPTS[script]
    assert benches[kind.args].discover(kind)
