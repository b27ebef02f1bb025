"""Whether a process is still there: a file for each, which it keeps locked (flock) until it ends, however it ends.

What a process has noted down as its own under its token is nobody's once its file can be locked by somebody else, or is gone.
Nothing expires: a process that is slow or stopped is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re

from tusd_py.fs.temporary import TemporaryFile

__all__ = ["Presence", "departed", "forget", "is_present"]

_TOKEN = re.compile(r"[0-9a-f]{32}")


class Presence:
    """This process, in `directory`, as long as this object is not closed. `temporary` is a directory on the same file system.

    Raises `OSError`: its users know what they were doing. A child that is forked keeps its parent present.
    """

    def __init__(self, directory: str, temporary: str, mode: int) -> None:
        self.token = os.urandom(16).hex()
        self._path = f"{directory}/{self.token}"
        file = TemporaryFile(temporary, mode, hold=True)
        try:
            file.publish(self._path)  # locked before anybody can see it
        except OSError:
            file.discard()
            raise
        self._fd = file.detach()

    def __repr__(self) -> str:
        return f"<Presence {self.token}>"

    def close(self) -> None:
        """Be gone. Never raises; idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(fd)


def is_present(directory: str, token: str) -> bool:
    """Whether the process of this token is still there. Raises `OSError` where that can't be found out."""
    try:
        fd = os.open(f"{directory}/{token}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look at once must not take each other for the owner
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def departed(directory: str) -> list[str]:
    """The tokens of processes that ended without saying so."""
    return [name for name in os.listdir(directory) if _TOKEN.fullmatch(name) and not is_present(directory, name)]


def forget(directory: str, token: str) -> None:
    """Remove what a departed process has left, once nothing is its own any more."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{directory}/{token}")
