"""What an upload is called once it is a version of an object."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Mapping

from tusd_py.protocol.upload import Upload

__all__ = ["NAME_KEY", "object_name", "series_of", "text_metadata"]

_log = logging.getLogger("tusd_py.cas")

NAME_KEY = "object"
"""The key of the metadata that names the object."""

LONGEST_NAME = 1024
"""Characters: as much as an id may have."""


def object_name(upload: Upload) -> str:
    """What the upload's metadata call it; its id where they do not, or not in a way that can be printed."""
    value = upload.metadata.pairs.get(NAME_KEY)
    if value is None:
        return upload.id
    try:
        name = value.decode("utf-8")
    except UnicodeDecodeError:
        name = ""
    if not 0 < len(name) <= LONGEST_NAME or any(unicodedata.category(character) == "Cc" for character in name):
        expected = f"expected 1 to {LONGEST_NAME} characters of UTF-8 without control characters"
        _log.warning(
            "the metadata name no object: %s", expected, extra={"fields": {"id": upload.id, "name": repr(value[:100])}}
        )
        return upload.id
    return name


def series_of(upload: Upload) -> int | None:
    """The same for uploads that become versions of one object, in the order in which they were finished. None for those that
    are objects of their own, and for partials: nobody asks for the order of those, and a final may wait for them."""
    value = None if upload.is_partial else upload.metadata.pairs.get(NAME_KEY)
    return None if value is None else hash((upload.owner, value))


def text_metadata(upload: Upload) -> Mapping[str, str]:
    """The upload's metadata; values that are no UTF-8 are left out."""
    found = {}
    for key, value in upload.metadata.pairs.items():
        try:
            found[key] = value.decode("utf-8")
        except UnicodeDecodeError:
            continue
    return found
