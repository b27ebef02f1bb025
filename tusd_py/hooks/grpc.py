"""Hooks that are a gRPC service (`-hooks-grpc`), with tusd's messages (`hook.proto`). Needs the extra `grpc`.

Tried again, as tusd does, where the service says that it could not take the call (UNAVAILABLE, RESOURCE_EXHAUSTED). Unlike
tusd's, a call has a time limit. As the messages have no place for it, a gRPC hook can't refuse a termination.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from tusd_py.hooks.grpc_messages import METHOD, HookRequest, build_request, parse_response
from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.hook_messages import go_canonical
from tusd_py.protocol.hooks import HookAnswer, HookEvent, HookType

__all__ = ["GrpcHooks"]

MAX_ANSWER = 1024 * 1024
"""Bytes of an answer, which has a few hundred as a rule."""

MAX_RECONNECT = 10_000
"""Milliseconds between attempts to connect to a service that is down; gRPC's own two minutes would keep refusing uploads long
after the service is back."""

_AGAIN = frozenset((grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED))

_KEY = re.compile(r"[0-9a-z_.-]+")
# Part of the call itself, or reserved by gRPC.
_NOT_FORWARDED = frozenset(("connection", "content-length", "content-type", "host", "te", "transfer-encoding", "user-agent"))
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class GrpcHooks:
    """Calls InvokeHook at `target` (`host:port`). `attempts` counts all of them; `backoff` and `timeout` are seconds, and the
    latter covers all attempts. `root_certificates` (PEM) switches TLS on; `client_pair` is certificate and key for mutual TLS.

    `forward_headers` go along as metadata. Belongs to one event loop.
    """

    def __init__(
        self,
        target: str,
        types: frozenset[HookType],
        *,
        attempts: int = 3,
        backoff: float = 1.0,
        timeout: float = 300.0,
        root_certificates: bytes | None = None,
        client_pair: tuple[bytes, bytes] | None = None,
        forward_headers: Iterable[str] = (),
    ) -> None:
        self.types = types
        self._target, self._attempts, self._backoff, self._timeout = target, max(attempts, 1), backoff, timeout
        self._root_certificates, self._client_pair = root_certificates, client_pair
        names = [name.strip() for name in forward_headers]
        self._forward = [(name.lower(), go_canonical(name.encode())) for name in names if _can_be_metadata(name.lower())]
        self._channel: Any = None
        self._call: Any = None

    def __repr__(self) -> str:
        return f"<GrpcHooks {self._target}>"

    async def invoke(self, event: HookEvent) -> HookAnswer:
        request, metadata = build_request(event), self._metadata(event)
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._ask(request, metadata)
        except TimeoutError:
            raise HookFailure(f"the gRPC hook did not answer within {self._timeout:g} seconds") from None
        except grpc.aio.AioRpcError as error:
            raise HookFailure(f"rpc error: code = {_go_name(error.code())} desc = {error.details()}") from error
        try:
            return parse_response(response)
        except ValueError as error:
            raise HookFailure(f"failed to parse hook response: {error}") from error

    async def close(self) -> None:
        channel, self._channel, self._call = self._channel, None, None
        if channel is not None:
            with suppress(grpc.aio.BaseError):
                await channel.close()

    async def _ask(self, request: Any, metadata: tuple[tuple[str, str], ...]) -> Any:
        if self._call is None:
            self._open()
        for attempt in range(1, self._attempts + 1):
            try:
                return await self._call(request, metadata=metadata, timeout=self._timeout)
            except grpc.aio.AioRpcError as error:
                if attempt == self._attempts or error.code() not in _AGAIN:
                    raise
            await asyncio.sleep(self._backoff)
        raise AssertionError("there is at least one attempt")

    def _open(self) -> None:
        options = [("grpc.max_receive_message_length", MAX_ANSWER), ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT)]
        if self._root_certificates is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=options)
        else:
            certificate, key = self._client_pair or (None, None)
            credentials = grpc.ssl_channel_credentials(self._root_certificates, private_key=key, certificate_chain=certificate)
            self._channel = grpc.aio.secure_channel(self._target, credentials, options=options)
        # The answer stays bytes: what can't be decoded comes as None from grpc, and with a traceback in the log.
        self._call = self._channel.unary_unary(METHOD, request_serializer=HookRequest.SerializeToString)

    def _metadata(self, event: HookEvent) -> tuple[tuple[str, str], ...]:
        found = [
            (name, _UNPRINTABLE.sub("?", value))
            for name, canonical in self._forward
            for value in event.request.headers.get(canonical, ())
        ]
        if event.id:
            found.append(("idempotency-key", _UNPRINTABLE.sub("?", event.id)))
        return tuple(found)


def _can_be_metadata(name: str) -> bool:
    """Whether a header can go along: gRPC has its own grammar for names, and meanings for some."""
    reserved = name in _NOT_FORWARDED or name.startswith("grpc-") or name.endswith("-bin")
    return _KEY.fullmatch(name) is not None and not reserved


def _go_name(code: Any) -> str:
    """A status as Go spells it in its errors."""
    if code is grpc.StatusCode.CANCELLED:
        return "Canceled"
    return str(code.name).title().replace("_", "")
