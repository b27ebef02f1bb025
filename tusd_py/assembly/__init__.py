"""Puts the parts together: adapters into use cases, use cases into the application. The only package that knows them all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from starlette.types import ASGIApp

from tusd_py.asgi import Site, TusApp
from tusd_py.assembly.authorization import build_authorizer
from tusd_py.assembly.embedding import Authorize, make_authorizer, make_hooks
from tusd_py.assembly.hooks import build_hooks
from tusd_py.assembly.observability import Observability, build_observability
from tusd_py.assembly.telling import show_delivery
from tusd_py.assembly.uploads import open_uploads
from tusd_py.observability.cells import Page
from tusd_py.ports.authorization import Authorizer
from tusd_py.ports.hooks import Hooks
from tusd_py.ports.observer import NO_OBSERVER, Observer
from tusd_py.ports.readings import Reading
from tusd_py.protocol.cors import ALLOW_HEADERS, ALLOW_METHODS, EXPOSE_HEADERS, Cors
from tusd_py.settings import Settings
from tusd_py.uploads import Durability

__all__ = ["Service", "build", "create_app"]

DEFAULT_HOOK_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Service:
    """A server's application, ready to be run. Belongs to one process: it must be built after a fork.

    `count_connections` is to be given a function that tells how many connections are open.
    """

    app: ASGIApp
    begin_shutdown: Callable[[], None]
    lifespan: Callable[[], AbstractAsyncContextManager[None]]
    count_connections: Callable[[Callable[[], int]], None]


def build(settings: Settings, page: Page | None = None) -> Service:
    """The stand-alone server's site. `page` is this worker's share of the metrics, where there are several.

    Raises `ReadOnlyStorage` where the upload directory can't be used, `SettingsError` for files and modules that can't be.
    """
    watching = build_observability(settings, page)
    hooks = build_hooks(settings, watching.observer)
    tus = _application(
        settings,
        hooks,
        build_authorizer(settings),
        watching.observer,
        cors=None if settings.disable_cors else _cors(settings),
        watching=watching,
    )
    site = Site(tus, settings.base_path, greeting=settings.show_greeting, pages=watching.pages)

    def begin_shutdown() -> None:
        watching.begin_shutdown()
        tus.begin_shutdown()

    return Service(site, begin_shutdown, tus.lifespan, watching.count_connections)


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
    hooks: object | None = None,
    hook_timeout: timedelta = DEFAULT_HOOK_TIMEOUT,
    authorize: Authorize | Authorizer | None = None,
    observer: Observer = NO_OBSERVER,
    settings: Settings | None = None,
) -> TusApp:
    """An ASGI application to mount in another one: `app.mount("/files", create_app("./uploads"))`.

    Uploads are kept in `upload_dir`, in tusd's layout. `max_size` in bytes, None is no limit; unfinished uploads are removed
    `expiry` after their last byte, None is never. CORS is left to the host unless `cors_allow_origin`, a regular expression,
    is given.

    `hooks` is a function of a `HookEvent`, or an object with methods such as `pre_create` and `post_finish`, sync or async;
    each call may take `hook_timeout`. `authorize` is a function of request, action and upload that returns a `Decision` or a
    bool. `observer` is told of everything that happens. `settings` has whatever else can be set (limits, events, other ways of
    asking hooks); what arguments name is not taken from there.

    Raises `ReadOnlyStorage` where the directory can't be used, `ValueError` for values that make no sense.
    """
    if max_size is not None and max_size < 0:
        raise ValueError(f"max_size is {max_size}: a number of bytes expected, or None for no limit")
    if expiry is not None and expiry <= timedelta(0):
        raise ValueError(f"expiry is {expiry}: a positive time expected, or None for never")
    if hook_timeout <= timedelta(0):
        raise ValueError(f"hook_timeout is {hook_timeout}: a positive time expected")
    everything = replace(
        settings or Settings(),
        upload_dir=Path(upload_dir),
        max_size=max_size or 0,
        expiry=0.0 if expiry is None else expiry.total_seconds(),
        durability=Durability(durability).value,
        disable_download=not downloads,
        disable_termination=not termination,
        disable_concatenation=not concatenation,
        metadata_strict=strict_metadata,
        behind_proxy=behind_proxy,
        network_timeout=network_timeout.total_seconds(),
        acquire_lock_timeout=lock_timeout.total_seconds(),
        base_path="/",
    )
    return _application(
        everything,
        build_hooks(everything, observer) if hooks is None else make_hooks(hooks, hook_timeout),
        build_authorizer(everything) if authorize is None else make_authorizer(authorize),
        observer,
        cors=None if cors_allow_origin is None else Cors(allow_origin=re.compile(cors_allow_origin)),
    )


def _application(
    settings: Settings,
    hooks: Hooks | None,
    authorizer: Authorizer | None,
    observer: Observer,
    *,
    cors: Cors | None,
    watching: Observability | None = None,
) -> TusApp:
    machinery = open_uploads(settings, hooks, observer)
    work, closers = machinery.work, machinery.closers
    if watching is not None:
        work, closers = (*work, *watching.work), (*closers, *watching.closers)
        if machinery.delivery is not None:
            work = (*work, show_delivery(machinery.delivery, watching))
        for reading in machinery.readings:
            watching.add_reading(reading)
        watching.add_reading(
            Reading(
                name="tusd_py_uploads_receiving",
                help="Requests that are receiving a body at this moment.",
                read=lambda: float(len(machinery.uploads.holds)),
            )
        )
    return TusApp(
        machinery.uploads,
        base_path=settings.base_path,
        behind_proxy=settings.behind_proxy,
        cors=cors,
        network_timeout=settings.network_timeout,
        sweep_interval=settings.expiry_sweep_interval,
        status_interval=settings.status_interval,
        authorizer=authorizer,
        observer=observer,
        work=work,
        closers=closers,
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
