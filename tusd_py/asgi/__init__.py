"""The ASGI application: HTTP in, use cases, HTTP out. The only importer of Starlette."""

from tusd_py.asgi.app import TusApp
from tusd_py.asgi.site import Site

__all__ = ["Site", "TusApp"]
