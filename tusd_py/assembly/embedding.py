"""What a host application gives to `create_app`, as the ports that the use cases ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, cast

from tusd_py.authorization.combined import CombinedAuthorizer
from tusd_py.authorization.python import PythonAuthorizer
from tusd_py.ports.authorization import Action, Authorizer, Decision
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.hooks import HookType
from tusd_py.protocol.upload import Upload

if TYPE_CHECKING:
    from tusd_py.ports.hooks import Hooks

__all__ = ["Authorize", "make_authorizer", "make_hooks"]

Authorize: TypeAlias = Callable[
    [HttpRequest, Action, Upload | None], Decision | bool | Awaitable[Decision | bool | None] | None
]
"""Decides on a request. True allows, without an owner; False denies; None is 401."""


def make_authorizer(authorize: Authorize | Authorizer | None) -> Authorizer | None:
    """Who decides; None where everybody may do everything. Raises ValueError for what can't be called."""
    if authorize is None:
        return None
    if hasattr(authorize, "authorize") and hasattr(authorize, "sign_url"):
        return cast(Authorizer, authorize)
    if not callable(authorize):
        raise ValueError(f"authorize is {authorize!r}: a function of request, action and upload expected")
    return CombinedAuthorizer([PythonAuthorizer(authorize)])


def make_hooks(hooks: object | None, timeout: timedelta) -> Hooks | None:
    """Who is asked and told; None for nobody. Raises ValueError for what answers no hook."""
    if hooks is None:
        return None
    if hasattr(hooks, "invoke") and hasattr(hooks, "types"):
        return cast("Hooks", hooks)
    from tusd_py.hooks.python import PythonHooks

    return PythonHooks(hooks, frozenset(HookType), timeout=timeout.total_seconds())
