"""What a server of tus 1.0 has to do, in memory: uploads, and what each request to them is answered. Knows no socket.

Written from the conformance checklist, not from the server: where the two disagree, one of them is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

Framing = Literal["length", "length-cut", "chunked", "chunked-cut"]
Check = Literal["none", "good", "wrong", "unknown", "trailer-good", "trailer-wrong", "trailer-missing"]

CEILING = 2**63 - 1


@dataclass(eq=False)
class Upload:
    """An upload that the server has told us of. `parts` is set for a final; `failed` says that it can never be finished."""

    path: str
    length: int | None
    data: bytes = b""
    partial: bool = False
    metadata: str = ""
    concat: str | None = None
    parts: tuple[Upload, ...] | None = None
    deleted: bool = False
    failed: bool = False
    assembled: bool = False

    def __repr__(self) -> str:
        return f"<{'final' if self.parts is not None else 'partial' if self.partial else 'upload'} {self.path[-6:]}>"

    @property
    def is_final(self) -> bool:
        return self.parts is not None

    @property
    def offset(self) -> int:
        return len(self.data)

    @property
    def finished(self) -> bool:
        return self.assembled if self.is_final else self.offset == self.length


@dataclass(frozen=True)
class Body:
    """A request body as it is sent: `cut` ends it before its announced end."""

    data: bytes = b""
    framing: Framing = "length"
    check: Check = "none"

    @property
    def announced(self) -> int:
        """Content-Length, 0 where there is none."""
        return {"length": len(self.data), "length-cut": len(self.data) + 3}.get(self.framing, 0)

    @property
    def verified(self) -> bool:
        return self.check != "none"


@dataclass
class Model:
    """All uploads of one example. Methods take a request and return the status that it has to get."""

    max_size: int | None = None
    expiry: bool = False
    uploads: list[Upload] = field(default_factory=list)

    @property
    def ceiling(self) -> int:
        return CEILING if self.max_size is None else self.max_size

    # Creation

    def create(self, length: int | None, body: Body | None) -> int:
        """A POST of anything but a final. What of the body is in the upload afterwards is `body.data`, if it is a 201."""
        if body is not None and body.check == "unknown":
            return 400
        limit = self.ceiling if length is None else length
        if limit > self.ceiling or (body is not None and body.announced > limit):
            return 413
        if body is None or (body.framing == "length" and not body.data):  # nothing to receive, so nothing to verify (K18)
            return 201
        return self._receive(body, limit, 201)[0]

    def create_final(self, parts: tuple[Upload, ...]) -> int:
        if any(part.deleted for part in parts):
            return 404
        if not all(part.partial for part in parts):
            return 400
        length = total_length(parts)
        return 413 if length is not None and length > self.ceiling else 201

    # Appending

    def append(self, upload: Upload, offset: int, body: Body, declared: int | None) -> int:
        """A PATCH."""
        if body.check == "unknown":
            return 400
        if upload.deleted:
            return 404
        if upload.is_final:
            return 403
        if offset != upload.offset:
            return 409
        if declared is not None:
            if upload.length is not None and declared != upload.length:
                return 400
            if declared < offset:
                return 400
            if declared > self.ceiling:
                return 413
        length = upload.length if declared is None else declared
        limit = max(0, (self.ceiling if length is None else length) - offset)
        if body.announced > limit:
            return 413
        upload.length = length  # a declaration stands, whatever becomes of the body
        status, kept = self._receive(body, limit, 204)
        upload.data += kept
        self.settle()
        return status

    def _receive(self, body: Body, limit: int, success: int) -> tuple[int, bytes]:
        """The status, and what is kept."""
        kept = b"" if body.verified else body.data[:limit]
        if len(body.data) > limit:
            return 413, kept
        if body.framing.endswith("cut"):
            return 400, kept
        if body.check == "trailer-missing":
            return 400, b""
        if body.check.endswith("wrong"):
            return 460, b""
        return success, body.data

    # The rest

    def delete(self, upload: Upload) -> int:
        if upload.deleted:
            return 404
        upload.deleted = True
        self.settle()
        return 204

    def describe(self, upload: Upload) -> int:
        return 404 if upload.deleted else 410 if upload.failed else 200

    def read(self, upload: Upload) -> int:
        status = self.describe(upload)
        return 423 if status == 200 and upload.is_final and not upload.finished else status

    def settle(self) -> None:
        """See which finals are finished now, and which can never be (N22, N23)."""
        for final in self.uploads:
            if final.parts is None or final.finished or final.failed:
                continue
            final.length = total_length(final.parts)
            if any(part.deleted for part in final.parts) or (final.length or 0) > self.ceiling:
                final.failed = True
            elif all(part.finished for part in final.parts):
                final.assembled, final.data = True, b"".join(part.data for part in final.parts)

    def headers(self, upload: Upload) -> dict[str, str | None]:
        """What a HEAD has to show; None for what it must not."""
        waiting = upload.is_final and not upload.finished
        return {
            "upload-offset": None if waiting else str(upload.offset),
            "upload-length": None if upload.length is None else str(upload.length),
            "upload-defer-length": "1" if upload.length is None and not upload.is_final else None,
            "upload-metadata": upload.metadata or None,
            "upload-concat": upload.concat,
            "cache-control": "no-store",
        }


def total_length(parts: tuple[Upload, ...]) -> int | None:
    lengths = [part.length for part in parts]
    return None if None in lengths else sum(length for length in lengths if length is not None)


def selected(requested: str | None, size: int) -> tuple[int, slice]:
    """Status and bytes that a GET with this Range gets (G02, G03)."""
    whole = 200, slice(0, size)
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", requested or "")
    if found is None or found.groups() == ("", ""):
        return whole
    first, last = found.groups()
    if not first:
        count = int(last)
        return (206, slice(max(0, size - count), size)) if count and size else (416, slice(0, 0))
    if last and int(last) < int(first):
        return whole
    end = min(int(last) + 1, size) if last else size
    return (206, slice(int(first), end)) if int(first) < size else (416, slice(0, 0))
