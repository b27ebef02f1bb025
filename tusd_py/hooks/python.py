"""Hooks in Python (`-hooks-python module:object`), in the server's own process.

The object is a function of a `HookEvent` that returns a `HookAnswer` or None, or it has methods for some of the hooks, named
`pre_create`, `post_finish` and so on. `async def` runs on the event loop and must not block it; anything else runs in a thread.
An exception is a failure of the hook, with its text; raise `HookFailure` to choose the text without a traceback in the log.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.hook_messages import check_answer, wire_text
from tusd_py.protocol.hooks import HookAnswer, HookEvent, HookType

__all__ = ["HookFunction", "PythonHooks", "load_object"]

_log = logging.getLogger("tusd_py.hooks")

HookFunction: TypeAlias = Callable[[HookEvent], HookAnswer | Awaitable[HookAnswer | None] | None]
"""What answers one hook, or all of them."""

MAX_THREADS = 32
"""Hooks that run in threads at once: they wait for databases and services rather than compute, and none of these likes more
callers from one process. One that hangs keeps its place until it returns."""


def load_object(target: str) -> object:
    """What `module:object` names; the working directory is searched as well. Raises ValueError with a sentence."""
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise ValueError(f"{target!r} names no Python object: expected module:object, such as myhooks:answer")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:  # whatever a module does when it is imported
        raise ValueError(f"the module {module_name!r} can't be imported: {type(error).__name__}: {error}") from error
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ValueError(f"the module {module_name!r} has no {path!r}") from None
    return found


def _functions(found: object) -> Mapping[HookType, HookFunction]:
    """What answers which hook. Raises ValueError."""
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise ValueError(f"{found!r} can't be made without arguments: {error}") from error
    methods = {kind: getattr(found, kind.replace("-", "_"), None) for kind in HookType}
    functions = {kind: method for kind, method in methods.items() if callable(method)}
    if not functions and callable(found):
        return dict.fromkeys(HookType, found)
    if not functions:
        names = ", ".join(kind.replace("-", "_") for kind in HookType)
        raise ValueError(f"{found!r} answers no hook: expected a function, or an object with some of the methods {names}")
    return functions


class PythonHooks:
    """Asks `found`, the object that was loaded, for those of `types` that it has an answer for. `timeout` in seconds.

    Raises ValueError, with a sentence, for an object that can't be a hook. Belongs to one event loop.
    """

    def __init__(self, found: object, types: frozenset[HookType], *, timeout: float) -> None:
        self._functions = _functions(found)
        self.types = types & self._functions.keys()
        self._timeout = timeout
        self._slots = asyncio.Semaphore(MAX_THREADS)

    def __repr__(self) -> str:
        return f"<PythonHooks {sorted(self.types)}>"

    async def invoke(self, event: HookEvent) -> HookAnswer:
        try:
            async with asyncio.timeout(self._timeout) as limit:
                answer = await self._call(self._functions[event.type], event)
        except TimeoutError as error:
            if not limit.expired():
                raise self._failure(event, error) from error
            raise HookFailure(f"the {event.type} hook took longer than {self._timeout:g} seconds") from None
        except HookFailure:
            raise
        except Exception as error:
            raise self._failure(event, error) from error
        return _checked(event, answer)

    async def close(self) -> None:
        """There is nothing to let go of: threads end by themselves, and keep no process from ending."""

    async def _call(self, function: HookFunction, event: HookEvent) -> object:
        try:
            answer = function(event) if _is_async(function) else await self._in_thread(function, event)
            return await answer if inspect.isawaitable(answer) else answer
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise HookFailure(f"the {event.type} hook cancelled itself") from None

    async def _in_thread(self, function: HookFunction, event: HookEvent) -> object:
        """Call a function in a thread of its own, which is not waited for at exit as those of a pool would be."""
        await self._slots.acquire()  # until the thread has ended, which may be after this call
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[object, BaseException | None]] = loop.create_future()

        def finish(answer: object, error: BaseException | None) -> None:
            self._slots.release()
            if not done.done():
                done.set_result((answer, error))

        def work() -> None:
            answer: object = None
            failure: BaseException | None = None
            try:
                answer = function(event)
            except BaseException as error:  # SystemExit as well: nobody else would hear of it
                failure = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(finish, answer, failure)

        context = contextvars.copy_context()
        try:
            threading.Thread(target=partial(context.run, work), name=f"hook-{event.type}", daemon=True).start()
        except RuntimeError as error:
            self._slots.release()
            raise HookFailure(f"the {event.type} hook could not be called: {error}") from error
        answer, failure = await done
        if failure is not None:
            raise failure if isinstance(failure, Exception) else HookFailure(f"{type(failure).__name__}: {failure}")
        return answer

    def _failure(self, event: HookEvent, error: Exception) -> HookFailure:
        _log.error("the %s hook raised an exception", event.type, exc_info=error)
        return HookFailure(str(error) or type(error).__name__)


def _is_async(function: HookFunction) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _checked(event: HookEvent, answer: Any) -> HookAnswer:
    """What a hook has returned, if it can be acted on. Header values are sent as UTF-8, as Go does."""
    if answer is None:
        return HookAnswer()
    if not isinstance(answer, HookAnswer):
        raise HookFailure(f"the {event.type} hook returned a {type(answer).__name__}: expected a HookAnswer or None")
    try:
        headers = {name: wire_text(value) for name, value in answer.response.headers.items()}
        return check_answer(replace(answer, response=replace(answer.response, headers=headers)))
    except (AttributeError, TypeError, ValueError) as error:
        raise HookFailure(f"the {event.type} hook returned a HookAnswer that makes no sense: {error}") from error
