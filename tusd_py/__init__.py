"""tusd-py: a resumable-upload server. tus 1.0 with every extension, in the place of tusd, or mounted in your own ASGI app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tusd_py.asgi import TusApp
    from tusd_py.assembly import create_app
    from tusd_py.assembly.metrics import create_metrics
    from tusd_py.ports.authorization import Action, Authorizer, Decision, allow, deny
    from tusd_py.ports.hooks import HookFailure, Hooks
    from tusd_py.protocol.exchange import HttpRequest, HttpResponse
    from tusd_py.protocol.hooks import FileInfoChanges, HookAnswer, HookEvent, HookType
    from tusd_py.protocol.metadata import Metadata
    from tusd_py.protocol.upload import Upload
    from tusd_py.settings import Settings, SettingsError
    from tusd_py.uploads import Durability

__all__ = [
    "Action",
    "Authorizer",
    "Decision",
    "Durability",
    "FileInfoChanges",
    "HookAnswer",
    "HookEvent",
    "HookFailure",
    "HookType",
    "Hooks",
    "HttpRequest",
    "HttpResponse",
    "Metadata",
    "Settings",
    "SettingsError",
    "TusApp",
    "Upload",
    "__version__",
    "allow",
    "create_app",
    "create_metrics",
    "deny",
]

__version__ = "0.1.0"

_HOMES = {
    "asgi": ("TusApp",),
    "assembly": ("create_app",),
    "assembly.metrics": ("create_metrics",),
    "ports.authorization": ("Action", "Authorizer", "Decision", "allow", "deny"),
    "ports.hooks": ("HookFailure", "Hooks"),
    "protocol.exchange": ("HttpRequest", "HttpResponse"),
    "protocol.hooks": ("FileInfoChanges", "HookAnswer", "HookEvent", "HookType"),
    "protocol.metadata": ("Metadata",),
    "protocol.upload": ("Upload",),
    "settings": ("Settings", "SettingsError"),
    "uploads": ("Durability",),
}
_HOME = {name: f"tusd_py.{module}" for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Public names are loaded when they are used: `tusd-py -version` needs no web framework."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
