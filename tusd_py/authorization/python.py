"""A function of the user's own as the authorizer: `-auth-python module:object`.

    async def authorize(request: HttpRequest, action: Action, upload: Upload | None) -> Decision | bool | None: ...

It may be a plain function as well, which is called in a thread. None means that it does not know the credentials, so that
others may; True allows, without an owner; False denies.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

from tusd_py.ports.authorization import Action, Decision, allow, deny
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.upload import Upload

__all__ = ["THREADS", "PythonAuthorizer", "load_function"]

THREADS = 32
"""Plain functions that run at once; further requests wait for one to return, as long as any authorizer may take. One that hangs
keeps its place until it returns."""

_Answer = Decision | bool | None
_Returned = _Answer | Awaitable[_Answer]
Function = Callable[[HttpRequest, Action, Upload | None], _Returned]


def load_function(name: str) -> Function:
    """The callable that `module:object` names; `object` may have dots. Imports the module, which may also be in the working
    directory. Raises ValueError."""
    module, colon, path = name.partition(":")
    if not colon or not module or not path:
        raise ValueError(f"{name!r} names no function: expected module:function")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found: Any = import_module(module)
    except Exception as error:  # whatever the module does while it is imported
        raise ValueError(f"cannot import {module!r}: {type(error).__name__}: {error}") from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(f"{module!r} has no {path!r}: expected module:function") from None
    if not callable(found):
        raise ValueError(f"{name!r} can't be called: expected a function of request, action and upload")
    return found  # type: ignore[no-any-return]


class PythonAuthorizer:
    """Asks a function. What it raises goes to the caller, to whom it is an error of the server. Belongs to one event loop."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._slots = asyncio.Semaphore(THREADS)

    def __repr__(self) -> str:
        return f"<PythonAuthorizer {self._function!r}>"

    async def recognize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision | None:
        """What the function says."""
        call = partial(self._function, request, action, upload)
        try:
            answer = call() if _is_async(self._function) else await self._in_thread(call)
            if inspect.isawaitable(answer):
                answer = await answer
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RuntimeError(f"{self._function!r} cancelled itself") from None
        if answer is True:
            return allow()
        if answer is False:
            return deny()
        if answer is None or isinstance(answer, Decision):
            return answer
        raise TypeError(f"{self._function!r} returned {type(answer).__name__}: expected a Decision, a bool or None")

    async def _in_thread(self, call: Callable[[], _Returned]) -> _Returned:
        """Call in a thread of its own, which is not waited for at exit as those of a pool would be."""
        await self._slots.acquire()  # until the thread has ended, which may be after this request
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[_Returned, BaseException | None]] = loop.create_future()

        def finish(answer: _Returned, failure: BaseException | None) -> None:
            self._slots.release()
            if not done.done():
                done.set_result((answer, failure))
            elif inspect.iscoroutine(answer):
                answer.close()  # nobody waits any more

        def work() -> None:
            answer: _Returned = None
            failure: BaseException | None = None
            try:
                answer = call()
            except BaseException as error:  # SystemExit as well: nobody else would hear of it
                failure = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(finish, answer, failure)

        context = contextvars.copy_context()
        try:
            threading.Thread(target=context.run, args=(work,), name="authorize", daemon=True).start()
        except RuntimeError:
            self._slots.release()
            raise
        answer, failure = await done
        if failure is not None:
            raise failure if isinstance(failure, Exception) else RuntimeError(repr(failure))
        return answer


def _is_async(function: Function) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
