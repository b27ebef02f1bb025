"""Puts the parts together: adapters into use cases, use cases into the application. The only module that knows them all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from starlette.types import ASGIApp

from tusd_py.asgi import Site, TusApp
from tusd_py.datastore.filesystem import FilesystemStore
from tusd_py.fs.sync import GroupSync
from tusd_py.infostore.tusd_dir import TusdDirectory
from tusd_py.locker.posix import PosixLocker
from tusd_py.protocol.cors import ALLOW_HEADERS, ALLOW_METHODS, EXPOSE_HEADERS, Cors
from tusd_py.protocol.rules import Policy
from tusd_py.settings import Settings
from tusd_py.uploads import Durability, Uploads

__all__ = ["Service", "build", "create_app"]


@dataclass(frozen=True, slots=True)
class Service:
    """A server's application, ready to be run. Belongs to one process: it must be built after a fork."""

    app: ASGIApp
    begin_shutdown: Callable[[], None]
    lifespan: Callable[[], AbstractAsyncContextManager[None]]


def build(settings: Settings) -> Service:
    """The stand-alone server's site. Raises `ReadOnlyStorage` where the upload directory can't be used."""
    tus = TusApp(
        open_directory(
            settings.upload_dir,
            policy=_policy(settings),
            durability=Durability(settings.durability),
            lock_timeout=settings.acquire_lock_timeout,
            dir_mode=settings.dir_perms,
            file_mode=settings.file_perms,
        ),
        base_path=settings.base_path,
        behind_proxy=settings.behind_proxy,
        cors=None if settings.disable_cors else _cors(settings),
        network_timeout=settings.network_timeout,
        sweep_interval=settings.expiry_sweep_interval,
    )
    site = Site(tus, settings.base_path, greeting=settings.show_greeting)
    return Service(site, tus.begin_shutdown, tus.lifespan)


def create_app(
    upload_dir: str | os.PathLike[str],
    *,
    max_size: int | None = None,
    expiry: timedelta | None = None,
    durability: Durability | str = Durability.FINAL,
    downloads: bool = True,
    termination: bool = True,
    concatenation: bool = True,
    strict_metadata: bool = False,
    behind_proxy: bool = False,
    cors_allow_origin: str | None = None,
    network_timeout: timedelta = timedelta(minutes=1),
    lock_timeout: timedelta = timedelta(seconds=20),
) -> TusApp:
    """An ASGI application to mount in another one: `app.mount("/files", create_app("./uploads"))`.

    Uploads are kept in `upload_dir`, in tusd's layout. `max_size` in bytes, None is no limit; unfinished uploads are removed
    `expiry` after their last byte, None is never. CORS is left to the host unless `cors_allow_origin`, a regular expression,
    is given. Raises `ReadOnlyStorage` where the directory can't be used, `ValueError` for values that make no sense.
    """
    if max_size is not None and max_size < 0:
        raise ValueError(f"max_size is {max_size}: a number of bytes expected, or None for no limit")
    if expiry is not None and expiry <= timedelta(0):
        raise ValueError(f"expiry is {expiry}: a positive time expected, or None for never")
    policy = Policy(
        max_size=max_size,
        expiry=None if expiry is None else expiry.total_seconds(),
        downloads=downloads,
        termination=termination,
        concatenation=concatenation,
        strict_metadata=strict_metadata,
    )
    uploads = open_directory(
        Path(upload_dir), policy=policy, durability=Durability(durability), lock_timeout=lock_timeout.total_seconds()
    )
    return TusApp(
        uploads,
        behind_proxy=behind_proxy,
        cors=None if cors_allow_origin is None else Cors(allow_origin=re.compile(cors_allow_origin)),
        network_timeout=network_timeout.total_seconds(),
    )


def open_directory(
    directory: Path,
    *,
    policy: Policy,
    durability: Durability,
    lock_timeout: float,
    dir_mode: int = 0o775,
    file_mode: int = 0o664,
) -> Uploads:
    """Uploads in a directory of tusd's layout, safe to be opened by several processes of one machine."""
    root = str(directory.absolute())
    group = GroupSync()
    data = FilesystemStore(root, group=group, dir_mode=dir_mode, file_mode=file_mode)
    durable = durability is not Durability.NONE
    info = TusdDirectory(root, group=group, dir_mode=dir_mode, file_mode=file_mode, durable=durable)
    locker = PosixLocker(f"{root}/.tusd-py")
    return Uploads(data, info, locker, policy=policy, durability=durability, lock_timeout=lock_timeout)


def _policy(settings: Settings) -> Policy:
    return Policy(
        max_size=settings.max_size or None,
        expiry=settings.expiry or None,
        downloads=not settings.disable_download,
        termination=not settings.disable_termination,
        concatenation=not settings.disable_concatenation,
        strict_metadata=settings.metadata_strict,
    )


def _cors(settings: Settings) -> Cors:
    return Cors(
        allow_origin=settings.cors_allow_origin,
        allow_credentials=settings.cors_allow_credentials,
        allow_methods=_joined(ALLOW_METHODS, settings.cors_allow_methods),
        allow_headers=_joined(ALLOW_HEADERS, settings.cors_allow_headers),
        expose_headers=_joined(EXPOSE_HEADERS, settings.cors_expose_headers),
        max_age=str(settings.cors_max_age),
    )


def _joined(ours: str, more: str) -> str:
    return f"{ours}, {more}" if more else ours
