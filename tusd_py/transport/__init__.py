"""Our own HTTP transport: a protocol class for uvicorn that moves bodies at the speed of the system calls.

The application works without it, under any ASGI server; it is then merely slower.
"""

from __future__ import annotations

import asyncio
import logging

__all__ = ["http_protocol"]

_log = logging.getLogger("tusd_py.transport")

UVICORN = "0.54."
"""The minor version whose internals the protocol class was written against and is tested with."""


def http_protocol(*, network_timeout: float) -> type[asyncio.Protocol] | str:
    """What `uvicorn.Config(http=...)` takes: our protocol class or, where uvicorn or httptools are not the ones we know, the
    name of a stock one. `network_timeout` in seconds."""
    import uvicorn

    if not uvicorn.__version__.startswith(UVICORN):
        _log.warning("uvicorn %s is not %s*: using its own HTTP protocol class, which is slower", uvicorn.__version__, UVICORN)
        return "auto"
    try:
        from tusd_py.transport.protocol import UploadProtocol
    except ImportError as missing:
        _log.warning("%s: using uvicorn's own HTTP protocol class, which is slower", missing)
        return "auto"
    return UploadProtocol.configure(network_timeout=network_timeout)
