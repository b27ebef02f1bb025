"""What hooks are told and what they may answer, in tusd's terms. How it is written down is `hook_messages`'s business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tusd_py.protocol.exchange import NO_REQUEST, HttpRequest, HttpResponse
from tusd_py.protocol.upload import Upload

__all__ = ["DEFAULT_TYPES", "EVENTS", "GATES", "FileInfoChanges", "HookAnswer", "HookEvent", "HookType"]


class HookType(StrEnum):
    """tusd's hooks, by its names; and `post-ingest`, which is ours: an extension has taken the bytes over."""

    PRE_CREATE = "pre-create"
    POST_CREATE = "post-create"
    POST_RECEIVE = "post-receive"
    PRE_FINISH = "pre-finish"
    POST_FINISH = "post-finish"
    PRE_TERMINATE = "pre-terminate"
    POST_TERMINATE = "post-terminate"
    POST_INGEST = "post-ingest"


GATES = frozenset({HookType.PRE_CREATE, HookType.PRE_FINISH, HookType.PRE_TERMINATE})
"""Awaited before something happens; they may refuse it or amend it."""

EVENTS = frozenset(HookType) - GATES
"""Told after something happened, at least once, in order per upload."""

DEFAULT_TYPES = frozenset(HookType) - {HookType.PRE_FINISH, HookType.PRE_TERMINATE, HookType.POST_INGEST}
"""Those of tusd's default for `-hooks-enabled-events`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookEvent:
    """One thing that is about to happen (a gate) or has happened (an event).

    Before a creation, `upload.id` is empty, as in tusd. `id` is the event's own: it is the same each time the event is
    delivered, so that a receiver can tell a repetition; empty for gates.
    """

    type: HookType
    upload: Upload
    request: HttpRequest = NO_REQUEST
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfoChanges:
    """What pre-create changes about the upload to be. None stays as it is; an empty `metadata` erases.

    `path` says where the bytes shall be, relative to the upload directory or absolute.
    """

    id: str | None = None
    metadata: Mapping[str, bytes] | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HookAnswer:
    """What a hook answers; each field counts for the hooks that tusd honours it for, and is ignored for the others."""

    response: HttpResponse = field(default_factory=HttpResponse)
    reject_upload: bool = False
    reject_termination: bool = False
    stop_upload: bool = False
    changes: FileInfoChanges = field(default_factory=FileInfoChanges)
