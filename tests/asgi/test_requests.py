"""A request as others are told about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from tusd_py.asgi.requests import Request


def facts_of(query: bytes = b"", headers: Sequence[tuple[bytes, bytes]] = ()) -> Request:
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/files/",
        "raw_path": b"/files/",
        "query_string": query,
        "headers": [(b"host", b"h"), *headers],
        "client": ("::1", 5),
    }
    return Request(scope, cast(Any, None), "/files/", 30.0)


async def test_hooks_are_told_what_tusd_tells_them() -> None:
    facts = facts_of(b"a=b&c", [(b"x-custom", b"1"), (b"x-custom", b"2")]).http_request()
    assert (facts.method, facts.uri, facts.remote_addr) == ("POST", "/files/?a=b&c", "[::1]:5")
    assert facts.headers == {"Host": ("h",), "X-Custom": ("1", "2")}


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        (b"intent=secret", ""),
        (b"a=b&intent=secret&c=d", "?a=b&c=d"),
        (b"capability=secret&capability=again", ""),
        (b"myintent=x", "?myintent=x"),
    ],
)
async def test_hooks_are_not_told_permissions_of_ours(query: bytes, kept: str) -> None:
    request = facts_of(query, [(b"upload-intent", b"secret"), (b"authorization", b"Bearer theirs")])
    facts = request.http_request()
    assert facts.uri == f"/files/{kept}" and "Upload-Intent" not in facts.headers
    assert facts.header("Authorization") == "Bearer theirs", "tusd's hooks rely on it"
    whole = request.with_credentials()
    assert whole.uri == f"/files/?{query.decode()}" and whole.header("Upload-Intent") == "secret"
