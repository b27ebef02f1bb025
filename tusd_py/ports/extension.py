"""What an extension adds to the server, and what the server does for it.

An extension is a package of its own, found by the entry point group `tusd_py.extensions`, whose entries name an `Extension`. It
imports `tusd_py.ports`, `tusd_py.protocol`, `tusd_py.fs` and `tusd_py.testing`, and nothing else of the server. What is named
by the entry point is loaded by every command, so it must not import much; `open` may.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tusd_py.ports.datastore import DataStore
from tusd_py.ports.events import Consumer
from tusd_py.ports.readings import Reading
from tusd_py.protocol.hooks import HookEvent, HookType
from tusd_py.protocol.upload import Upload

__all__ = ["Command", "Extension", "FindUploadDir", "Host", "Opened", "Option", "Place"]

FindUploadDir = Callable[[str | None, str | None], Path]
"""The upload directory: as given, else as the configuration file given says, else as the environment, or the default, does.
Raises `ValueError` with a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A setting of an extension: flag `-<name>`, variable `TUSD_PY_<NAME>`, and in the configuration file a key of the table
    named like the extension (`cas-level` is `level` in `[cas]`).

    Kinds and values are those of `tusd_py.settings`: durations are seconds, sizes bytes. `bare` is the choice that the flag
    alone, without a value, makes; None where it takes one. An option named like the extension itself is the key `mode` of its
    table, or a key beside the tables.
    """

    name: str
    kind: Literal["bool", "choice", "duration", "int", "path", "size", "text"]
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    bare: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A subcommand, `tusd-py NAME ...`. `module` has `main(arguments: list[str], find_upload_dir: FindUploadDir) -> int`, which
    returns the exit status, and is imported when the command is given. `help` is one sentence."""

    module: str
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where uploads are. `state_dir` is for what is nobody else's business; an extension makes its own directory there.
    `told` are the events that hooks are told of; `keeps_events` says whether events survive this process until they are
    delivered, so that `Host.undelivered` knows all."""

    upload_dir: str
    state_dir: str
    dir_mode: int
    file_mode: int
    durable: bool
    told: frozenset[HookType] = frozenset()
    keeps_events: bool = True


@dataclass(frozen=True, slots=True)
class Received:
    """Bodies of uploads that have begun since the start of this process, and bytes of bodies that have come in, those included
    that are coming in just now."""

    bodies: int
    bytes: int


class Host(Protocol):
    """The server, for an extension. All methods raise `StorageFailure`."""

    @property
    def received(self) -> Received:
        """Asked now and then, it tells who would rather not be in the way of clients whether many uploads, or large ones, are
        coming in. Costs a microsecond, and a fraction of one per body that is being received."""

    async def look(self, upload_id: str) -> Upload | None:
        """The record of an upload that is finished, put together and accepted; None for any other."""

    async def relocate(
        self, upload_id: str, storage: Mapping[str, str], release: Callable[[Upload], Awaitable[None]]
    ) -> bool:
        """Note durably in the record of a finished upload that its bytes are where `storage` says (keys are added to
        `Upload.storage`; a `Type` other than `filestore` means that there need be no file any more), then call `release` with
        the record. All under the upload's lock: False, with nothing done, where somebody holds that or there is no such upload.
        May be called again for what has been relocated: `release` is then called again."""

    async def publish(self, event: HookEvent) -> None:
        """Tell consumers, at least once and behind all earlier events of the upload; to be called under its lock (from
        `relocate`), or later ones may be earlier. `event.id` must be the same whenever the same event is published again."""

    async def undelivered(self, upload_id: str, *, besides: str) -> int:
        """How many events of this upload some consumer other than `besides` has still to get, given up ones included."""

    async def without_record(self, upload_ids: Sequence[str]) -> Sequence[str]:
        """Those of which there is certainly no record, nor a damaged one."""

    async def clear_away(self, upload_id: str, remove: Callable[[], Awaitable[None]]) -> bool:
        """Call `remove` under the lock of an upload that has no record, for what is left of it: False, with nothing done,
        where somebody holds the lock or there is a record."""

    def ids(self) -> AsyncIterator[str]:
        """Ids of all uploads, in no order; those that come or go meanwhile may or may not be among them."""


class Opened(Protocol):
    """An extension at work in one server process. `around`, `attach`, then `run`, `finished` and deliveries at once, then
    `close`, after the last of them."""

    @property
    def consumers(self) -> Sequence[Consumer]:
        """Who wants to hear of events. Asked for before `attach`; nothing is delivered before that."""

    @property
    def readings(self) -> Sequence[Reading]:
        """What metrics show."""

    def around(self, data: DataStore) -> DataStore:
        """The store to be used in place of `data`. Called once."""

    def attach(self, host: Host) -> None:
        """The server is there. Called once, before anything is delivered."""

    def finished(self, upload: Upload) -> None:
        """This process has finished an upload: it is durable and accepted, and consumers have been told (or were being told
        when somebody cancelled that). Called once on the event loop, returns at once, raises nothing. A crash may keep it from
        being called, and what other processes finish it is not called for: who must hear of every upload has a consumer, or
        looks for what was missed (`Host.ids`)."""

    async def run(self) -> None:
        """Work in the background, until cancelled."""

    async def close(self) -> None:
        """Let go. Never raises; idempotent."""


class Extension(Protocol):
    """What an entry point names. `name` is a word of lower-case letters and digits; `options` are all named by it or begin with
    it and a dash."""

    @property
    def name(self) -> str: ...

    @property
    def options(self) -> Sequence[Option]: ...

    @property
    def commands(self) -> Mapping[str, Command]:
        """By name."""

    def open(self, values: Mapping[str, Any], place: Place) -> Opened | None:
        """Begin, in a process that is not going to fork; None where the options say that the extension is off. `values` has
        every option by its name. Raises `ValueError` with a sentence for values that can't be, `StorageFailure`."""
