"""tusd-py: a resumable-upload server. tus 1.0 with every extension, in the place of tusd, or mounted in your own ASGI app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tusd_py.asgi import TusApp
    from tusd_py.assembly import create_app
    from tusd_py.uploads import Durability

__all__ = ["Durability", "TusApp", "__version__", "create_app"]

__version__ = "0.1.0"

_HOMES = {"create_app": "tusd_py.assembly", "TusApp": "tusd_py.asgi", "Durability": "tusd_py.uploads"}


def __getattr__(name: str) -> Any:
    """Public names are loaded when they are used: `tusd-py -version` needs no web framework."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
