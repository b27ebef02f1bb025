"""The one grammar that upload ids obey wherever they enter: URL, Upload-Concat, hook answers, records.

An id is one or more segments joined by `/`, each of the characters tusd allows in a custom id without `%` (its uploads could
never be addressed) and never `.`-led, so that neither `..` nor our own `.tusd-py` can be named. A segment does not end like
the files that stand beside an upload in tusd's directory: the id `x.info` would otherwise destroy the record of `x`.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["MAX_ID", "MAX_SEGMENT", "is_valid_id"]

MAX_SEGMENT = 240
"""A file name has 255 bytes on Linux; the longest suffix beside an upload is `.info`, and temporary names need a few more."""

MAX_ID = 1024
"""A path has 4096 bytes; this leaves three quarters of it to the upload directory."""

_SEGMENT = rf"(?!\.)[A-Za-z0-9._~!$'()*+,;=:@-]{{1,{MAX_SEGMENT}}}(?<!\.info)(?<!\.lock)(?<!\.stop)"
_ID = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")


def is_valid_id(text: str) -> bool:
    """Whether `text` is an id."""
    # Letters and digits alone, as in nearly every id, can't break any rule but that of the length; and an id is checked
    # wherever it becomes a name, which is several times a request.
    if len(text) <= MAX_SEGMENT and text.isascii() and text.isalnum():
        return True
    return _obeys(text)


@lru_cache(maxsize=1024)
def _obeys(text: str) -> bool:
    return len(text) <= MAX_ID and _ID.fullmatch(text) is not None
