"""A function of the user's own."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.authorization.support import allowed, denied, request, upload
from tusd_py.authorization import python
from tusd_py.authorization.python import PythonAuthorizer, load_function
from tusd_py.ports.authorization import Action, allow

ANSWERS: list[tuple[Any, bool | None]] = [(True, True), (False, False), (None, None), (allow("alice"), True)]


class Asking:
    """An object that can be called."""

    thread: threading.Thread | None = None

    async def __call__(self, *_: object) -> bool:
        self.thread = threading.current_thread()
        return True


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
@pytest.mark.parametrize("kind", ["plain", "async", "awaitable"])
async def test_answers(kind: str, answer: Any, expected: bool | None) -> None:
    seen: list[tuple[Any, ...]] = []

    def plain(*arguments: Any) -> Any:
        seen.append((*arguments, threading.current_thread() is threading.main_thread()))
        return answer

    async def asynchronous(*arguments: Any) -> Any:
        return plain(*arguments)

    function = {"plain": plain, "async": asynchronous, "awaitable": lambda *arguments: asynchronous(*arguments)}[kind]
    shown, target = request(), upload()
    decision = await PythonAuthorizer(function).recognize(shown, Action.APPEND, target)
    assert seen == [(shown, Action.APPEND, target, kind != "plain")]
    assert (decision and decision.allowed) == expected


async def test_a_decision_is_passed_on_as_it_is() -> None:
    decision = allow("alice", max_size=5, metadata={"a": b"b"})
    assert await PythonAuthorizer(lambda *_: decision).recognize(request(), Action.CREATE, None) is decision


async def test_an_object_with_an_async_call_is_not_put_into_a_thread() -> None:
    asking = Asking()
    allowed(await PythonAuthorizer(asking).recognize(request(), Action.CREATE, None))
    assert asking.thread is threading.main_thread()


async def test_plain_functions_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=10)

    def wait(*_: object) -> bool:
        both.wait()
        return False

    authorizer = PythonAuthorizer(wait)
    for decision in await asyncio.gather(*(authorizer.recognize(request(), Action.CREATE, None) for _ in range(2))):
        denied(decision, 403)


async def test_one_that_hangs_takes_a_place_until_it_returns_and_nobody_waits_for_it_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(python, "THREADS", 1)
    go_on, threads = threading.Event(), list[threading.Thread]()
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def hang(*_: object) -> bool:
        threads.append(threading.current_thread())
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(30)
        return True

    authorizer = PythonAuthorizer(hang)
    first = asyncio.ensure_future(authorizer.recognize(request(), Action.CREATE, None))
    second = asyncio.ensure_future(authorizer.recognize(request(), Action.CREATE, None))
    await begun.wait()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled() and len(threads) == 1
    assert threads[0].daemon, "or the process could not end"
    go_on.set()
    allowed(await second)


ENDS = [("plain", asyncio.CancelledError), ("plain", SystemExit), ("plain", StopIteration), ("async", asyncio.CancelledError)]


@pytest.mark.parametrize(("kind", "failure"), ENDS)
async def test_what_would_end_the_request_or_the_server_is_an_error(kind: str, failure: type[BaseException]) -> None:
    def plain(*_: object) -> bool:
        raise failure

    async def asynchronous(*_: object) -> bool:
        raise failure

    with pytest.raises(RuntimeError):
        await PythonAuthorizer(plain if kind == "plain" else asynchronous).recognize(request(), Action.CREATE, None)


@pytest.mark.parametrize("answer", ["yes", 1, {"allowed": True}])
async def test_other_answers_are_errors(answer: Any) -> None:
    with pytest.raises(TypeError, match="expected a Decision, a bool or None"):
        await PythonAuthorizer(lambda *_: answer).recognize(request(), Action.CREATE, None)


@pytest.mark.parametrize("plain", [True, False])
async def test_what_it_raises_comes_through(plain: bool) -> None:
    def fail(*_: object) -> bool:
        raise LookupError("no database")

    async def fail_async(*_: object) -> bool:
        return fail()

    with pytest.raises(LookupError):
        await PythonAuthorizer(fail if plain else fail_async).recognize(request(), Action.CREATE, None)


MODULE = """
class Group:
    @staticmethod
    def authorize(request, action, upload):
        return True

group = Group()
number = 5
"""


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_module_may_be_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "authorizer_beside.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    assert load_function("authorizer_beside:group.authorize")(request(), Action.CREATE, None) is True


def test_a_function_is_found_by_its_name(on_path: Path) -> None:
    (on_path / "found_authorizer.py").write_text(MODULE)
    assert load_function("found_authorizer:group.authorize")(request(), Action.CREATE, None) is True


NAMES = [
    ("found_authorizer_2", "expected module:function"),
    (":authorize", "expected module:function"),
    ("found_authorizer_2:", "expected module:function"),
    ("found_authorizer_2:missing", "has no 'missing'"),
    ("found_authorizer_2:group.missing", "has no 'group.missing'"),
    ("found_authorizer_2:number", "can't be called"),
    ("no_such_module:authorize", "cannot import 'no_such_module': ModuleNotFoundError"),
    ("broken_authorizer:authorize", "cannot import 'broken_authorizer': ZeroDivisionError"),
]


@pytest.mark.parametrize(("name", "complaint"), NAMES)
def test_what_is_not_there_is_told_in_a_sentence(on_path: Path, name: str, complaint: str) -> None:
    (on_path / "found_authorizer_2.py").write_text(MODULE)
    (on_path / "broken_authorizer.py").write_text("1 / 0")
    with pytest.raises(ValueError, match=complaint):
        load_function(name)
