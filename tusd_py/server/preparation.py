"""What is done once per start, before anything listens."""

from __future__ import annotations

import os
import resource

from tusd_py.server.errors import StartError, reason
from tusd_py.settings import Settings

__all__ = ["prepare_upload_dir", "raise_file_limit"]


def raise_file_limit() -> None:
    """Allow as many open files as the system lets us: the soft limit of 1024 is for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def prepare_upload_dir(settings: Settings) -> None:
    """Make the upload directory if there is none. Raises `StartError` unless files can be made in it."""
    path = settings.upload_dir
    try:
        path.mkdir(mode=settings.dir_perms, parents=True, exist_ok=True)
    except FileExistsError:
        raise StartError(f"the upload directory {path} is not a directory") from None
    except OSError as error:
        raise StartError(f"cannot make the upload directory {path}: {reason(error)}") from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise StartError(f"the upload directory {path} is not writable: expected a directory in which files can be made")
