"""All records below a directory, a batch at a time, so that a directory of millions costs neither memory nor the loop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

from tusd_py.fs.errors import translate
from tusd_py.protocol.ids import is_valid_id

__all__ = ["BATCH", "RecordLister"]

BATCH = 1000
"""Names per batch: about a millisecond in the thread that reads them."""

_SUFFIX = ".info"


class RecordLister:
    """Lists ids; `next_batch` blocks and may be called in any thread, by one at a time."""

    def __init__(self, root: str) -> None:
        self._ids = _walk(root, "")

    def next_batch(self) -> list[str]:
        """Some more ids; none when there are no more. Raises `StorageFailure`."""
        try:
            return list(islice(self._ids, BATCH))
        except OSError as error:
            raise translate(error, "listing records") from error


def _walk(directory: str, prefix: str) -> Iterator[str]:
    """Ids of the records in `directory` and below it. Links are not followed; what is named by a dot is not an upload's, and a
    directory that we may not read, such as `lost+found`, has none of ours."""
    below: list[str] = []
    try:
        entries = os.scandir(directory)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        if prefix:  # where it is gone, it went away after it was listed
            return
        raise
    with entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            if name.endswith(_SUFFIX):
                upload_id = prefix + name.removesuffix(_SUFFIX)
                if is_valid_id(upload_id) and entry.is_file(follow_symlinks=False):
                    yield upload_id
            elif entry.is_dir(follow_symlinks=False):
                below.append(name)
    for name in below:
        yield from _walk(f"{directory}/{name}", f"{prefix}{name}/")
