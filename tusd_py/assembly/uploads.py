"""The use cases over a directory, with everything that is asked, told, limited and watched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tusd_py.assembly.events import build_delivery, build_outbox
from tusd_py.assembly.extensions import open_extensions
from tusd_py.assembly.limits import build_limiter, build_types
from tusd_py.datastore.filesystem import FilesystemStore
from tusd_py.fs.sync import GroupSync
from tusd_py.hooks.consumer import HookConsumer
from tusd_py.infostore.tusd_dir import TusdDirectory
from tusd_py.locker.posix import PosixLocker
from tusd_py.ports.datastore import DataStore
from tusd_py.ports.events import Consumer
from tusd_py.ports.extension import Opened
from tusd_py.ports.hooks import Hooks
from tusd_py.ports.limits import Limiter
from tusd_py.ports.observer import Observer
from tusd_py.ports.readings import Reading
from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.hooks import EVENTS
from tusd_py.protocol.rules import Policy
from tusd_py.settings import Settings
from tusd_py.uploads import Durability, Uploads
from tusd_py.uploads.announcing import Announcer
from tusd_py.uploads.delivering import Delivery
from tusd_py.uploads.gates import Gates
from tusd_py.uploads.ticking import Ticker

__all__ = ["Machinery", "open_uploads"]

DECIDE_INTERVAL = 60.0
"""Seconds between two looks at events that could not be decided upon when they happened."""

Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Machinery:
    """Uploads and what runs beside them: `work` until it is cancelled, `closers` afterwards. `delivery` is None where nobody
    is told of events; `readings` are those of extensions."""

    uploads: Uploads
    work: tuple[Work, ...]
    closers: tuple[Work, ...]
    delivery: Delivery | None
    readings: tuple[Reading, ...] = ()


def open_uploads(settings: Settings, hooks: Hooks | None, observer: Observer) -> Machinery:
    """Uploads in a directory of tusd's layout, which several processes of one machine may open. To be called behind a fork.

    Raises `ReadOnlyStorage` where the directory can't be used, `SettingsError` for limits that can't be kept.
    """
    root = str(settings.upload_dir)
    dir_mode, file_mode, group = settings.dir_perms, settings.file_perms, GroupSync()
    durability = Durability(settings.durability)
    data = FilesystemStore(root, group=group, dir_mode=dir_mode, file_mode=file_mode)
    durable = durability is not Durability.NONE
    info = TusdDirectory(root, group=group, dir_mode=dir_mode, file_mode=file_mode, durable=durable)
    limiter = build_limiter(settings, info)
    extensions = open_extensions(settings, frozenset() if hooks is None else hooks.types & EVENTS)
    around: DataStore = data
    for extension in extensions:
        around = extension.around(around)
    telling = _Telling(settings, hooks, extensions)
    uploads = Uploads(
        around,
        info,
        PosixLocker(f"{root}/.tusd-py"),
        policy=_policy(settings),
        gates=Gates(hooks),
        announcer=telling.announcer,
        limiter=limiter,
        types=build_types(settings),
        observer=observer,
        durability=durability,
        lock_timeout=settings.acquire_lock_timeout,
    )
    telling.uploads = uploads
    for extension in extensions:
        extension.attach(uploads.host)
    ticker = Ticker(
        uploads.holds,
        telling.announcer,
        limiter,
        interval=settings.progress_hooks_interval,
        min_rate=settings.min_throughput,
    )
    work = [
        *telling.work,
        *([uploads.recount] if limiter is not None else []),
        *([ticker.run] if ticker.needed else []),
        *(extension.run for extension in extensions),
    ]
    readings = tuple(reading for extension in extensions for reading in extension.readings)
    return Machinery(uploads, tuple(work), (*telling.closers, *_closing(limiter)), telling.delivery, readings)


class _Telling:
    """Who is told of events; nobody, where there is no hook and no extension. `uploads` are set once they are there."""

    uploads: Uploads

    def __init__(self, settings: Settings, hooks: Hooks | None, extensions: Sequence[Opened]) -> None:
        self.announcer: Announcer | None = None
        self.delivery: Delivery | None = None
        self.work: tuple[Work, ...] = ()
        ending = [*(extension.close for extension in extensions), *([] if hooks is None else [hooks.close])]
        self.closers: tuple[Work, ...] = tuple(ending)
        candidates: list[Consumer] = [] if hooks is None else [HookConsumer(hooks, self._stop)]
        candidates += [consumer for extension in extensions for consumer in extension.consumers]
        consumers = [consumer for consumer in candidates if consumer.types]
        if not consumers and not extensions:
            return
        outbox = build_outbox(settings)  # without consumers, it knows of events from before
        delivery = build_delivery(settings, outbox, consumers)
        self.announcer = Announcer(outbox, consumers, delivery.notify, [extension.finished for extension in extensions])
        self.closers = (delivery.close, *ending, outbox.close)
        if not consumers:
            return
        self.delivery = delivery

        async def begin() -> None:
            delivery.start()

        self.work = (begin, self._decide)

    def _stop(self, upload_id: str, response: HttpResponse) -> None:
        self.uploads.stop(upload_id, response)

    async def _decide(self) -> None:
        await self.uploads.keep_deciding(DECIDE_INTERVAL)


def _closing(limiter: Limiter | None) -> tuple[Work, ...]:
    return () if limiter is None else (limiter.close,)


def _policy(settings: Settings) -> Policy:
    return Policy(
        max_size=settings.max_size or None,
        expiry=settings.expiry or None,
        downloads=not settings.disable_download,
        termination=not settings.disable_termination,
        concatenation=not settings.disable_concatenation,
        strict_metadata=settings.metadata_strict,
    )
