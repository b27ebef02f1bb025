"""Programs as hooks: what they are told, what becomes of what they say, and that none of them can hold up the server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hooks.support import ALL, ANSWERS, event, every_answer, until
from tusd_py.hooks import command, processes
from tusd_py.hooks.command import CommandHooks
from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.hook_messages import build_hook_answer, build_hook_message
from tusd_py.protocol.hooks import HookAnswer, HookEvent, HookType


def script(directory: Path, text: str, kind: HookType = HookType.POST_FINISH, *, shell: str = "/bin/bash") -> Path:
    path = directory / kind
    path.write_text(f"#!{shell}\n{text}\n")
    path.chmod(0o755)
    return path


def hooks(directory: Path, timeout: float = 60.0) -> CommandHooks:
    return CommandHooks(directory, ALL, timeout=timeout)


def large_event() -> HookEvent:
    """Far more to tell than fits into a pipe."""
    asked = event()
    return replace(asked, request=replace(asked.request, headers={"X": ("y" * 1_000_000,)}))


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def pid_in(path: Path) -> int:
    return int(await until(lambda: path.exists() and path.read_text().endswith("\n") and path.read_text()))


@every_answer
async def test_what_it_prints_is_the_answer(tmp_path: Path, answer: HookAnswer) -> None:
    (tmp_path / "answer").write_bytes(build_hook_answer(answer))
    script(tmp_path, "cat answer")
    assert await hooks(tmp_path).invoke(event()) == answer


async def test_it_is_told_in_tusds_json_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "x")
    monkeypatch.delenv("TUS_EVENT_ID", raising=False)
    script(tmp_path, "cat > told; env > environment; pwd > where; echo '{}'", HookType.PRE_FINISH)
    asked = event(HookType.PRE_FINISH)
    await hooks(tmp_path).invoke(asked)
    assert (tmp_path / "told").read_bytes() == build_hook_message(asked)
    environment = (tmp_path / "environment").read_text().splitlines()
    assert {"TUS_ID=cd8e", "TUS_SIZE=11", "TUS_OFFSET=4", "FROM_OUTSIDE=x"} <= set(environment)
    assert not [line for line in environment if line.startswith("TUS_EVENT_ID=")]
    assert Path((tmp_path / "where").read_text().strip()).samefile(tmp_path)  # noqa: ASYNC240


async def test_events_have_an_id_and_deferred_lengths_are_zero(tmp_path: Path) -> None:
    script(tmp_path, 'echo "$TUS_EVENT_ID $TUS_SIZE" > seen')
    await hooks(tmp_path).invoke(event(event_id="e1", length=None))
    assert (tmp_path / "seen").read_text() == "e1 0\n"


async def test_a_script_in_python_is_a_hook(tmp_path: Path) -> None:
    script(
        tmp_path,
        "import json, sys\nevent = json.load(sys.stdin)\n"
        "print(json.dumps({'ChangeFileInfo': {'ID': event['Event']['Upload']['MetaData']['filename']}}))",
        HookType.PRE_CREATE,
        shell=sys.executable,
    )
    assert (await hooks(tmp_path).invoke(event(HookType.PRE_CREATE))).changes.id == "ü.txt"


async def test_a_missing_program_is_success(tmp_path: Path) -> None:
    assert await hooks(tmp_path).invoke(event()) == HookAnswer()


async def test_no_output_is_an_empty_answer(tmp_path: Path) -> None:
    script(tmp_path, "exit 0")
    assert await hooks(tmp_path).invoke(event()) == HookAnswer()


async def test_stderr_is_the_servers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script(tmp_path, "echo complaint >&2")
    await hooks(tmp_path).invoke(event())
    assert capfd.readouterr().err == "complaint\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo out; echo err >&2; exit 3", "unexpected return code 3 from hook endpoint: out\n"),
        ("exit 1", "unexpected return code 1 from hook endpoint: "),
        ("kill -TERM $$", "unexpected return code -1 (SIGTERM) from hook endpoint: "),
        (
            "echo hello",
            "failed to parse hook response: no JSON: Expecting value: line 1 column 1 (char 0), response was: hello\n",
        ),
        ("echo '{\"RejectUpload\":1}'", 'RejectUpload is not true or false, response was: {"RejectUpload":1}\n'),
        ("printf '\\377'", "response was: \ufffd"),
        ("yes | head -c 6000; exit 2", "unexpected return code 2 from hook endpoint: " + "y\n" * 2560),
    ],
)
async def test_failures_say_what_the_hook_said(tmp_path: Path, text: str, message: str) -> None:
    script(tmp_path, text)
    with pytest.raises(HookFailure) as failure:
        await hooks(tmp_path).invoke(event())
    assert str(failure.value).endswith(message)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("#!/bin/sh\n", 0o644, r"not executable for this user \(chmod \+x\)"),
        ("#!/no/such/interpreter\n", 0o755, "the interpreter in its first line does not exist"),
    ],
)
async def test_what_cannot_be_started_is_a_failure(tmp_path: Path, content: str, mode: int, message: str) -> None:
    path = tmp_path / HookType.POST_FINISH
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(HookFailure, match=f"the hook {path} could not be started: .*{message}"):
        await hooks(tmp_path).invoke(event())


async def test_a_script_that_names_no_interpreter_is_the_shells(tmp_path: Path) -> None:
    path = tmp_path / HookType.POST_FINISH
    path.write_text("""echo '{"RejectUpload":true}'\n""")
    path.chmod(0o755)
    assert (await hooks(tmp_path).invoke(event())).reject_upload


async def test_a_dangling_link_is_a_failure_and_not_a_missing_program(tmp_path: Path) -> None:
    (tmp_path / HookType.POST_FINISH).symlink_to("nowhere")
    with pytest.raises(HookFailure, match="could not be started"):
        await hooks(tmp_path).invoke(event())


@pytest.mark.parametrize("text", ["exec <&-; echo '{}'", "echo '{}'"], ids=["closed", "ignored"])
async def test_a_program_need_not_read_what_it_is_told(tmp_path: Path, text: str) -> None:
    script(tmp_path, text)
    assert await hooks(tmp_path).invoke(large_event()) == HookAnswer()


async def test_a_large_message_arrives_whole_while_output_comes(tmp_path: Path) -> None:
    asked = large_event()
    script(tmp_path, """head -c 200000 /dev/zero | tr '\\0' ' '; cat > told; echo '{"RejectUpload":true}'""")
    assert (await hooks(tmp_path).invoke(asked)).reject_upload
    assert (tmp_path / "told").read_bytes() == build_hook_message(asked)


async def test_endless_output_is_cut_off(tmp_path: Path) -> None:
    script(tmp_path, "echo $$ > pid; exec yes")
    with pytest.raises(HookFailure, match="wrote more than 1048576 bytes"):
        await hooks(tmp_path).invoke(event())
    assert not alive(await pid_in(tmp_path / "pid"))


HANGING = "echo $$ > pid; sleep 1000 & echo $! > child; wait"


async def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    script(tmp_path, HANGING)
    with pytest.raises(HookFailure, match=r"the post-finish hook took longer than 0\.5 seconds and was killed"):
        await hooks(tmp_path, timeout=0.5).invoke(event())
    assert not alive(await pid_in(tmp_path / "pid"))
    child = await pid_in(tmp_path / "child")
    await until(lambda: not alive(child))


async def test_a_cancelled_call_leaves_no_process(tmp_path: Path) -> None:
    script(tmp_path, f"trap '' TERM INT; {HANGING}")
    call = asyncio.create_task(hooks(tmp_path).invoke(event()))
    child = await pid_in(tmp_path / "child")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not alive(await pid_in(tmp_path / "pid"))
    await until(lambda: not alive(child))


async def test_a_call_cancelled_before_its_turn_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "STARTERS", 1)
    monkeypatch.setattr(processes, "REAP_TIME", 1000)  # it is not waited for
    script(tmp_path, "echo >> started")
    asked, go = hooks(tmp_path), threading.Event()
    asked._starters.submit(go.wait, 60)
    call = asyncio.create_task(asked.invoke(event()))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go.set()
    await asked.invoke(event())
    assert (tmp_path / "started").read_text() == "\n", "only the second call"


@pytest.mark.parametrize("text", ["exit 3", "kill -KILL $$"])
async def test_without_pidfds_a_thread_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    script(tmp_path, text)
    with pytest.raises(HookFailure, match=r"unexpected return code 3|SIGKILL"):
        await hooks(tmp_path).invoke(event())
    script(tmp_path, HANGING)
    with pytest.raises(HookFailure, match="took longer"):
        await hooks(tmp_path, timeout=0.5).invoke(event())
    child = await pid_in(tmp_path / "child")
    await until(lambda: not alive(child))


@pytest.mark.parametrize("rounds", range(20))
async def test_a_call_cancelled_at_any_moment_leaves_no_process(tmp_path: Path, rounds: int) -> None:
    script(tmp_path, f"echo $$ >> pids; {HANGING}")
    call = asyncio.create_task(hooks(tmp_path).invoke(event()))
    for _ in range(rounds):
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    started = (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []
    assert not [pid for pid in started if alive(int(pid))]
    await until(lambda: not [path for path in Path("/proc").glob("[0-9]*/cwd") if _leads_to(path, tmp_path)], timeout=5)


def _leads_to(link: Path, target: Path) -> bool:
    try:
        return os.readlink(link) == os.path.realpath(target)
    except OSError:
        return False


async def test_what_is_left_in_the_background_lives_on(tmp_path: Path) -> None:
    script(tmp_path, """sleep 1000 & echo $! > child; echo '{"RejectUpload":true}'""")
    assert (await hooks(tmp_path).invoke(event())).reject_upload, "the job holds stdout, and nobody waits for it"
    child = await pid_in(tmp_path / "child")
    assert alive(child)
    os.kill(child, signal.SIGKILL)


async def test_programs_are_bounded_in_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MAX_PROCESSES", 2)
    script(tmp_path, "echo >> started; read < gate")
    os.mkfifo(tmp_path / "gate")
    asked = hooks(tmp_path)
    calls = [asyncio.create_task(asked.invoke(event())) for _ in range(5)]
    started = tmp_path / "started"
    await until(lambda: started.exists() and len(started.read_text()) == 2)
    gate = os.open(tmp_path / "gate", os.O_RDWR)
    for count in (3, 4, 5):
        os.write(gate, b"\n")
        await until(lambda count=count: len(started.read_text()) == count)
        assert len(started.read_text()) == count
    os.write(gate, b"\n\n")
    await asyncio.gather(*calls)
    os.close(gate)


async def test_no_descriptor_is_left(tmp_path: Path) -> None:
    script(tmp_path, "echo '{}'")
    script(tmp_path, "sleep 1000", HookType.PRE_FINISH)
    (tmp_path / HookType.PRE_CREATE).write_text("")
    asked, impatient = hooks(tmp_path), hooks(tmp_path, timeout=0.05)
    await asked.invoke(event())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await asked.invoke(event())
        for kind in (HookType.PRE_FINISH, HookType.PRE_CREATE):
            with pytest.raises(HookFailure):
                await impatient.invoke(event(kind))
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_many_at_once_each_get_their_own_answer(tmp_path: Path) -> None:
    script(tmp_path, """read -r told; printf '{"ChangeFileInfo":{"ID":"%s"}}' "$TUS_ID" """)
    asked = hooks(tmp_path)
    answers = await asyncio.gather(*(asked.invoke(event(id=f"u{number}")) for number in range(40)))
    assert [answer.changes.id for answer in answers] == [f"u{number}" for number in range(40)]


async def test_close_can_be_called_twice(tmp_path: Path) -> None:
    asked = hooks(tmp_path)
    await asked.close()
    await asked.close()


def test_the_table_of_answers_is_json() -> None:
    for answer in ANSWERS.values():
        json.loads(build_hook_answer(answer))
