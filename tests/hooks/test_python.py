"""Hooks in Python: functions and objects, synchronous and not, and what becomes of what they return or raise."""

from __future__ import annotations

import asyncio
import functools
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.support import ALL, event, every_answer, until
from tusd_py.hooks import python
from tusd_py.hooks.python import PythonHooks, load_object
from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.hooks import FileInfoChanges, HookAnswer, HookEvent, HookType


def hooks(found: object, timeout: float = 30.0) -> PythonHooks:
    return PythonHooks(found, ALL, timeout=timeout)


def as_written(answer: HookAnswer) -> HookAnswer:
    """An answer as its author writes it: text, not the bytes that are sent."""
    headers = {name: value.encode("latin-1").decode() for name, value in answer.response.headers.items()}
    return replace(answer, response=replace(answer.response, headers=headers))


@every_answer
async def test_what_a_function_returns_is_the_answer(answer: HookAnswer) -> None:
    assert await hooks(lambda _: as_written(answer)).invoke(event()) == answer


@every_answer
async def test_what_a_coroutine_returns_is_the_answer(answer: HookAnswer) -> None:
    async def function(asked: HookEvent) -> HookAnswer:
        await asyncio.sleep(0)
        return as_written(answer)

    assert await hooks(function).invoke(event()) == answer


async def test_it_is_given_the_event_itself() -> None:
    seen: list[HookEvent] = []
    asked = event(HookType.PRE_CREATE, owner="alice")
    await hooks(seen.append).invoke(asked)
    assert seen == [asked]
    assert seen[0] is asked


async def test_functions_run_in_threads_and_coroutines_on_the_loop() -> None:
    threads: list[threading.Thread] = []

    async def on_loop(_: HookEvent) -> None:
        threads.append(threading.current_thread())

    await hooks(lambda _: threads.append(threading.current_thread())).invoke(event())
    await hooks(on_loop).invoke(event())
    assert threads[0] is not threading.main_thread()
    assert threads[0].daemon, "it would keep the process from ending"
    assert threads[1] is threading.main_thread()


class Asynchronous:
    async def __call__(self, asked: HookEvent) -> HookAnswer:
        assert threading.current_thread() is threading.main_thread()
        return HookAnswer(reject_upload=True)


async def coroutine(_: HookEvent, *, reject: bool = True) -> HookAnswer:
    return HookAnswer(reject_upload=reject)


@pytest.mark.parametrize(
    "found", [Asynchronous, Asynchronous(), functools.partial(coroutine, reject=True), lambda asked: coroutine(asked)]
)
async def test_all_that_can_be_called_is_called(found: object) -> None:
    assert (await hooks(found).invoke(event())).reject_upload


class Some:
    """Answers two hooks, one of each kind."""

    post_receive = None
    helper = 5

    def pre_create(self, asked: HookEvent) -> HookAnswer:
        return HookAnswer(reject_upload=True)

    async def post_finish(self, asked: HookEvent) -> None:
        raise HookFailure("not today")


@pytest.mark.parametrize("found", [Some, Some()])
async def test_an_object_answers_the_hooks_that_it_has_methods_for(found: object) -> None:
    asked = hooks(found)
    assert asked.types == {HookType.PRE_CREATE, HookType.POST_FINISH}
    assert (await asked.invoke(event(HookType.PRE_CREATE))).reject_upload
    with pytest.raises(HookFailure, match=r"^not today$"):
        await asked.invoke(event(HookType.POST_FINISH))


def test_only_enabled_hooks_are_asked() -> None:
    assert PythonHooks(Some, frozenset({HookType.POST_FINISH, HookType.PRE_FINISH}), timeout=1).types == {HookType.POST_FINISH}
    assert PythonHooks(print, frozenset({HookType.PRE_FINISH}), timeout=1).types == {HookType.PRE_FINISH}


def raising(error: BaseException) -> Any:
    def function(_: HookEvent) -> None:
        raise error

    return function


def raising_on_loop(error: BaseException) -> Any:
    async def function(_: HookEvent) -> None:
        raise error

    return function


@pytest.mark.parametrize("make", [raising, raising_on_loop])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no such customer"), "no such customer"),
        (KeyError("id"), "'id'"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (TimeoutError("the database is slow"), "the database is slow"),
    ],
)
async def test_exceptions_are_failures_with_their_text(
    make: Any, error: Exception, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(HookFailure) as failure:
        await hooks(make(error)).invoke(event())
    assert str(failure.value) == message
    assert caplog.records[0].exc_info and caplog.records[0].exc_info[1] is error


@pytest.mark.parametrize("make", [raising, raising_on_loop])
async def test_failures_are_not_logged_as_defects(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(HookFailure, match=r"^come back later$"):
        await hooks(make(HookFailure("come back later"))).invoke(event())
    assert not caplog.records


async def test_a_thread_that_wants_to_end_the_program_is_a_failure() -> None:
    with pytest.raises(HookFailure, match="SystemExit: 3"):
        await hooks(raising(SystemExit(3))).invoke(event())


async def test_a_hook_that_cancels_itself_does_not_cancel_the_request() -> None:
    with pytest.raises(HookFailure, match="cancelled itself"):
        await hooks(raising_on_loop(asyncio.CancelledError())).invoke(event())


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"RejectUpload": True}, "returned a dict: expected a HookAnswer or None"),
        (True, "returned a bool: expected a HookAnswer or None"),
        (HookAnswer(response=HttpResponse(status=99)), "StatusCode is 99"),
        (HookAnswer(response=HttpResponse(status="400")), "makes no sense"),  # type: ignore[arg-type]
        (HookAnswer(response=HttpResponse(headers={"a b": "c"})), "Header has the name 'a b'"),
        (HookAnswer(response=HttpResponse(headers={"a": 5})), "makes no sense"),  # type: ignore[dict-item]
        (HookAnswer(changes=FileInfoChanges(metadata={"": b""})), "MetaData has the key ''"),
    ],
)
async def test_what_is_no_answer_is_a_failure(returned: Any, message: str) -> None:
    with pytest.raises(HookFailure, match=message):
        await hooks(lambda _: returned).invoke(event())


async def test_a_hanging_coroutine_is_cancelled_at_the_time_limit() -> None:
    ended: list[str] = []

    async def function(_: HookEvent) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with pytest.raises(HookFailure, match=r"the post-finish hook took longer than 0\.05 seconds"):
        await hooks(function, timeout=0.05).invoke(event())
    assert ended == ["cancelled"]


async def test_a_hanging_function_keeps_its_place_and_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python, "MAX_THREADS", 1)
    go, calls = threading.Event(), []

    def function(asked: HookEvent) -> None:
        calls.append(asked.id)
        go.wait(60)

    asked = hooks(function, timeout=0.2)
    for name in ("first", "second"):
        with pytest.raises(HookFailure, match="took longer"):
            await asked.invoke(event(event_id=name))
    assert calls == ["first"], "there is no place for the second"
    go.set()
    await until(lambda: asked._slots._value == 1)
    await asked.invoke(event(event_id="third"))
    assert calls == ["first", "third"]


async def test_a_cancelled_call_gives_its_place_back() -> None:
    go, started = threading.Event(), threading.Event()

    def function(_: HookEvent) -> None:
        started.set()
        go.wait(60)

    asked = hooks(function)
    call = asyncio.create_task(asked.invoke(event()))
    await until(started.is_set)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go.set()
    await until(lambda: asked._slots._value == python.MAX_THREADS)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"hooks_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text("def answer(event): ...\nclass Outer:\n    inner = staticmethod(answer)\n")
    (tmp_path / f"{name}_broken.py").write_text("import no_such_module_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    return name


def test_objects_are_found_in_the_working_directory(module: str) -> None:
    assert load_object(f"{module}:answer") is load_object(f"{module}:Outer.inner")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("{}", "names no Python object: expected module:object"),
        ("{}:", "names no Python object"),
        (":answer", "names no Python object"),
        ("", "names no Python object"),
        ("{}:reply", "the module '{}' has no 'reply'"),
        ("{}:Outer.missing", "the module '{}' has no 'Outer.missing'"),
        ("{}_broken:answer", "the module '{}_broken' can't be imported: ModuleNotFoundError: No module named"),
        ("no_such_module_at_all:x", "the module 'no_such_module_at_all' can't be imported"),
    ],
)
def test_what_names_nothing_is_refused(module: str, target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.format(module)):
        load_object(target.format(module))


class Demanding:
    def __init__(self, argument: str) -> None: ...


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (5, "5 answers no hook: expected a function"),
        (object(), "answers no hook"),
        (Demanding, "be made without"),
    ],
)
def test_what_can_be_no_hook_is_refused(found: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hooks(found)


async def test_close_can_be_called_twice() -> None:
    asked = hooks(print)
    await asked.close()
    await asked.close()
