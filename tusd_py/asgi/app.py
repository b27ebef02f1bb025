"""The tus application: which request asks for what, and what it is answered. Plain ASGI, to be served or mounted anywhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter

from starlette.types import Receive, Scope, Send

from tusd_py.asgi.downloads import Download
from tusd_py.asgi.errors import refusal_for
from tusd_py.asgi.permission import check_metadata, permit
from tusd_py.asgi.requests import Request
from tusd_py.asgi.shaping import Head, completed, refused, shaped
from tusd_py.asgi.sse import EventStream
from tusd_py.asgi.status import Page, StatusPages
from tusd_py.ports.authorization import Action, Authorizer
from tusd_py.ports.failures import StorageFailure
from tusd_py.ports.observer import NO_OBSERVER, Observer
from tusd_py.protocol import tus1
from tusd_py.protocol.concat import partial_id
from tusd_py.protocol.cors import Cors
from tusd_py.protocol.ids import is_valid_id
from tusd_py.protocol.refusals import MethodNotAllowed, Refusal, UploadMissing
from tusd_py.protocol.upload import Upload
from tusd_py.uploads import Uploads

__all__ = ["TusApp"]

_log = logging.getLogger("tusd_py.asgi")

_ALWAYS = ((b"tus-resumable", tus1.VERSION), (b"x-content-type-options", b"nosniff"))
_CLOSE = (b"connection", b"close")

_UNVERSIONED = ("HEAD", "GET")
"""Methods that browsers, curl and monitoring may use without Tus-Resumable (C05, G07)."""

RECOVERY_INTERVAL = 600.0
"""Seconds between two looks for what crashes of other processes, or a full disk, have left undone."""

PATIENCE = 7.0
"""Seconds that those who are closed may keep the next ones waiting, all together; our server gives the whole of it 10."""

Answer = tuple[int, Head] | Download | Page | EventStream
Handler = Callable[[Request, str], Awaitable[Answer]]
Work = Callable[[], Awaitable[object]]


class TusApp:
    """An ASGI application that serves uploads below the path it is mounted at, or below `base_path` of it.

    It needs nothing from its host: background work starts with the first request unless `lifespan` or ASGI's lifespan
    events have started it. `network_timeout` bounds, in seconds, the wait for more of a body under other servers than ours.
    `work` runs beside the requests until the application ends, `closers` are awaited then. Who watches uploads is told of
    progress every `status_interval` seconds.
    """

    def __init__(
        self,
        uploads: Uploads,
        *,
        base_path: str = "/",
        behind_proxy: bool = False,
        cors: Cors | None = None,
        network_timeout: float = 60.0,
        sweep_interval: float = 60.0,
        status_interval: float = 1.0,
        authorizer: Authorizer | None = None,
        observer: Observer = NO_OBSERVER,
        work: Sequence[Work] = (),
        closers: Sequence[Work] = (),
    ) -> None:
        self.uploads = uploads
        self._authorizer, self._observer, self._work, self._closers = authorizer, observer, work, closers
        self._base, self._behind_proxy, self._cors = base_path, behind_proxy, cors
        self._network_timeout, self._sweep_interval = network_timeout, sweep_interval
        self._background: asyncio.Task[None] | None = None
        self._status = StatusPages(uploads, authorizer, status_interval)
        policy = uploads.policy
        self._creation: dict[str, Handler] = {"POST": self._create}
        self._upload: dict[str, Handler] = {"HEAD": self._describe, "PATCH": self._append}
        if policy.downloads:
            self._upload["GET"] = self._download
        if policy.termination:
            self._upload["DELETE"] = self._terminate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"tusd-py serves HTTP; it can't serve {scope['type']!r}")
        if self._background is None:
            self._start()
        root = scope.get("root_path", "")
        path = scope["path"]
        relative = path[len(root) :] if path.startswith(root) else path
        upload_id = relative[len(self._base) :].removesuffix("/")
        request = Request(scope, receive, root + self._base, self._network_timeout, upload_id, self._behind_proxy)
        started = perf_counter()
        self._observer.request_incoming(request)
        extra = list(_ALWAYS)
        body = b""
        refusal: Refusal | None = None
        try:
            if self._cors is not None:
                extra += self._cors.answer(request.headers, preflight=request.method == "OPTIONS")
            if not relative.startswith(self._base) and relative + "/" != self._base:
                raise UploadMissing
            answer = await self._dispatch(request, upload_id)
        except Exception as failure:
            refusal = refusal_for(failure, request.method, path)
            status, head, body = refused(refusal)
            answer = status, head
        else:
            if request.response is not None and isinstance(answer, tuple):
                status, head, body = shaped(*answer, request.response)
                answer = status, head
        if not request.body.complete and scope["http_version"] in ("1.1", "1.0"):
            extra.append(_CLOSE)  # rather than swallow what is left of the body
        status = 0  # of an answer that broke off before there was one
        try:
            if isinstance(answer, tuple):
                status, head = answer
                plain = refusal is None and request.response is None
                headers = head + extra if plain else completed(head, extra)
                await send({"type": "http.response.start", "status": status, "headers": headers})
                await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
            else:
                status = await answer.send(request, extra, receive, send)
        finally:  # whatever becomes of the connection, the request is over
            self._observer.response_outgoing(request, status, refusal, perf_counter() - started)

    async def _dispatch(self, request: Request, upload_id: str) -> Answer:
        method = request.method
        if method == "OPTIONS":
            return 200, [*tus1.options_head(self.uploads.policy), (b"content-length", b"0")]
        if upload_id.startswith("."):
            return await self._status.answer(request, upload_id)
        handlers = self._upload if upload_id else self._creation
        handler = handlers.get(method)
        if handler is None:
            raise MethodNotAllowed(headers={"Allow": ", ".join((*handlers, "OPTIONS"))})
        tus1.check_version(request.headers, required=method not in _UNVERSIONED)
        if upload_id and not is_valid_id(upload_id):
            raise UploadMissing
        return await handler(request, upload_id)

    async def _create(self, request: Request, _: str) -> tuple[int, Head]:
        def find_partial(url: str) -> str:
            return partial_id(url, request.root, request.hosts())

        policy = self.uploads.policy
        if self._authorizer is None:
            request.any_owner = True  # nobody has to say who they are: what has an owner is everybody's, too
            command = tus1.read_create(request.headers, policy, find_partial)
        else:
            decision = await permit(self._authorizer, request.with_credentials(), Action.CREATE, None)
            command = tus1.read_create(request.headers, policy, find_partial)
            check_metadata(decision, command.metadata)
            request.admit(decision)
        upload = await self.uploads.create(command, request.body, request)
        location = request.location(upload.id)
        if self._authorizer is not None:
            location += self._authorizer.sign_url(upload).encode()
        return 201, tus1.write_created(upload, location, policy)

    async def _append(self, request: Request, upload_id: str) -> tuple[int, Head]:
        await self._permit(request, Action.APPEND, upload_id)
        upload = await self.uploads.append(tus1.read_append(request.headers, upload_id), request.body, request)
        return 204, tus1.write_appended(upload, self.uploads.policy)

    async def _describe(self, request: Request, upload_id: str) -> tuple[int, Head] | Download:
        await self._permit(request, Action.DESCRIBE, upload_id)
        is_tus = b"tus-resumable" in request.headers
        upload = await self.uploads.describe(upload_id, request, takeover=is_tus)
        head = tus1.write_described(upload, self.uploads.policy, request.location)
        if is_tus or not upload.finished or not self.uploads.policy.downloads or request.scope["method"] != "HEAD":
            return 200, head
        try:  # a browser, curl, a cache: they want to know what a GET would bring (RFC 9110, 9.3.2)
            return await self._download(request, upload_id, head)
        except Refusal:  # the upload went away just now, or may be described and not read
            return 200, head
        except StorageFailure as failure:
            fields = {"id": upload_id}
            _log.warning("what can be described can't be opened: %s", failure, extra={"fields": fields})
            return 200, head

    async def _terminate(self, request: Request, upload_id: str) -> tuple[int, Head]:
        await self._permit(request, Action.TERMINATE, upload_id)
        await self.uploads.terminate(upload_id, request)
        return 204, []

    async def _download(self, request: Request, upload_id: str, described: Sequence[tuple[bytes, bytes]] = ()) -> Download:
        await self._permit(request, Action.DOWNLOAD, upload_id)
        return await Download.begin(request, *await self.uploads.open_content(upload_id), described)

    async def _permit(self, request: Request, action: Action, upload_id: str) -> None:
        """Before the body is read and before anybody is disturbed who has the upload."""
        if self._authorizer is not None:
            upload: Upload = await self.uploads.look(upload_id)
            request.admit(await permit(self._authorizer, request.with_credentials(), action, upload))

    # Background work

    def begin_shutdown(self) -> None:
        """Stop every request that is receiving a body, keeping what it has; they are answered 503. Streams of progress end."""
        self.uploads.begin_shutdown()
        self._status.begin_shutdown()

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Background work (recovery, expiry) for the time of a `with` block; fits Starlette's and FastAPI's `lifespan=`."""
        if self._background is None:
            self._start()
        try:
            yield
        finally:
            self.begin_shutdown()
            await self._end()

    async def _end(self) -> None:
        """One after the other, for what is under way in the background uses what is closed later. But who hangs keeps none from
        being closed: when the patience is at an end, all that are left begin at once."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        ending: list[asyncio.Task[None]] = []
        try:
            if self._background is not None:
                self._background.cancel()
                ending.append(self._background)
                await asyncio.wait(ending, timeout=PATIENCE)
            for close in (self.uploads.close, *self._closers):
                ending.append(loop.create_task(self._attempt(close)))
                await asyncio.wait(ending[-1:], timeout=max(0.0, end - loop.time()))
            await asyncio.gather(*ending, return_exceptions=True)
        finally:
            for task in ending:
                task.cancel()

    def _start(self) -> None:
        self._background = asyncio.get_running_loop().create_task(self._run_background(), name="tusd-py background")

    async def _run_background(self) -> None:
        async with asyncio.TaskGroup() as group:
            for work in self._work:
                group.create_task(self._attempt(work))
            await self._attempt(self.uploads.recover)
            group.create_task(self._repeat(self.uploads.recover, RECOVERY_INTERVAL))
            if self.uploads.policy.expiry is not None:
                group.create_task(self._repeat(self.uploads.sweep, self._sweep_interval))

    async def _repeat(self, work: Work, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            await self._attempt(work)

    async def _attempt(self, work: Work) -> None:
        try:
            await work()
        except Exception:  # whatever it was, the next round may go better, and requests don't depend on it
            _log.exception("background work failed")

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self._start()
        except Exception as failure:
            await send({"type": "lifespan.startup.failed", "message": str(failure)})
            return
        async with self.lifespan():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
