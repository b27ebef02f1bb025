"""What can go wrong beneath the use cases. Adapters raise only these; foreign exceptions are translated at their edge.

StorageFailure            something below failed; the message is for the log and, unlike tusd's, never for the client
├── UploadNotFound        no record of that id
├── RecordDamaged         there is a record, but it can't be read: truncated, empty, not ours
├── UploadExists          an upload of that id is there already, and creating must not touch it
├── OutOfSpace            disk, quota or file-size limit reached; nothing acknowledged is affected
└── ReadOnlyStorage       the place may not be written
LockTimeout               somebody else kept the upload for longer than we may wait
"""

from __future__ import annotations

__all__ = [
    "LockTimeout",
    "OutOfSpace",
    "ReadOnlyStorage",
    "RecordDamaged",
    "StorageFailure",
    "UploadExists",
    "UploadNotFound",
]


class StorageFailure(Exception):
    """Storage failed in a way that the request can't be blamed for."""


class UploadNotFound(StorageFailure):
    """There is no upload of this id."""


class RecordDamaged(StorageFailure):
    """The record of this upload is there but can't be read."""


class UploadExists(StorageFailure):
    """There already is an upload of this id."""


class OutOfSpace(StorageFailure):
    """There is no space left to store the bytes or the record."""


class ReadOnlyStorage(StorageFailure):
    """The storage may not be written to."""


class LockTimeout(Exception):
    """The upload stayed locked by another request for as long as we may wait."""
