"""A function of the user's own as the authorizer: `-auth-python module:object`.

    async def authorize(request: HttpRequest, action: Action, upload: Upload | None) -> Decision | bool | None: ...

It may be a plain function as well, which is called in a thread. None means that it does not know the credentials, so that
others may; True allows, without an owner; False denies.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from tusd_py.ports.authorization import Action, Decision, allow, deny
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.upload import Upload

__all__ = ["THREADS", "PythonAuthorizer", "load_function"]

THREADS = 8
"""Plain functions that run at once; further requests wait for one to return, as long as any authorizer may take."""

_Answer = Decision | bool | None
Function = Callable[[HttpRequest, Action, Upload | None], _Answer | Awaitable[_Answer]]


def load_function(name: str) -> Function:
    """The callable that `module:object` names; `object` may have dots. Imports the module. Raises ValueError."""
    module, colon, path = name.partition(":")
    if not colon or not module or not path:
        raise ValueError(f"{name!r} names no function: expected module:function")
    try:
        found: Any = import_module(module)
    except Exception as error:  # whatever the module does while it is imported
        raise ValueError(
            f"cannot import {module!r}: {type(error).__name__}: {error}; modules are found in the directories of PYTHONPATH"
        ) from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(f"{module!r} has no {path!r}: expected module:function") from None
    if not callable(found):
        raise ValueError(f"{name!r} can't be called: expected a function of request, action and upload")
    return found  # type: ignore[no-any-return]


class PythonAuthorizer:
    """Asks a function. What it raises goes to the caller, to whom it is an error of the server."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  (an object with an async __call__)
        )
        self._pool = None if self._is_async else ThreadPoolExecutor(THREADS, thread_name_prefix="tusd-authorize")

    def __repr__(self) -> str:
        return f"<PythonAuthorizer {self._function!r}>"

    async def recognize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision | None:
        """What the function says."""
        if self._pool is None:
            answer = self._function(request, action, upload)
        else:
            answer = await asyncio.get_running_loop().run_in_executor(self._pool, self._function, request, action, upload)
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is True:
            return allow()
        if answer is False:
            return deny()
        if answer is None or isinstance(answer, Decision):
            return answer
        raise TypeError(f"{self._function!r} returned {type(answer).__name__}: expected a Decision, a bool or None")
