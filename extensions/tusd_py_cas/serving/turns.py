"""Work that one process has to do for all: whoever has the turn does it, as long as it lives.

The kernel gives the lock of a file back when its process ends, however that comes; so nobody is waited for in vain.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os

from tusd_py_cas.layout import FILE_MODE

__all__ = ["Turn"]

_log = logging.getLogger("tusd_py.cas")

NAME = "background.lock"


class Turn:
    """In the repository at `path`."""

    def __init__(self, path: str) -> None:
        self._path = f"{path}/{NAME}"
        self._fd = -1
        self._failed = ""  # what the log has been told last

    def __repr__(self) -> str:
        return f"<Turn {'taken' if self._fd >= 0 else 'not taken'}>"

    def take(self) -> bool:
        """Whether this process has the turn, from now on or already."""
        if self._fd >= 0:
            return True
        fd = -1
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES) and self._failed != str(error):
                self._failed = str(error)
                _log.warning("the turn at background work can't be taken", extra={"fields": {"error": str(error)}})
            return False
        self._fd, self._failed = fd, ""
        return True

    def give_back(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
