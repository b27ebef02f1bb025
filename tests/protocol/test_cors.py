"""What browsers are told."""

from __future__ import annotations

import re

import pytest

from tusd_py.protocol.cors import ALLOW_HEADERS, ALLOW_METHODS, EXPOSE_HEADERS, Cors
from tusd_py.protocol.refusals import OriginNotAllowed

VARY = (b"vary", b"Origin")
HERE = {b"origin": b"https://app.example"}


@pytest.mark.parametrize("preflight", [False, True])
def test_without_an_origin_only_caches_are_told(preflight: bool) -> None:
    assert Cors().answer({}, preflight=preflight) == [VARY]


def test_a_preflight_is_told_what_may_be_sent() -> None:
    assert Cors().answer(HERE, preflight=True) == [
        VARY,
        (b"access-control-allow-origin", b"https://app.example"),
        (b"access-control-allow-methods", ALLOW_METHODS.encode()),
        (b"access-control-allow-headers", ALLOW_HEADERS.encode()),
        (b"access-control-max-age", b"86400"),
    ]


def test_a_request_is_told_what_may_be_read() -> None:
    assert Cors().answer(HERE, preflight=False) == [
        VARY,
        (b"access-control-allow-origin", b"https://app.example"),
        (b"access-control-expose-headers", EXPOSE_HEADERS.encode()),
    ]


@pytest.mark.parametrize("preflight", [False, True])
def test_credentials_are_allowed_where_configured(preflight: bool) -> None:
    pair = (b"access-control-allow-credentials", b"true")
    assert pair in Cors(allow_credentials=True).answer(HERE, preflight=preflight)
    assert pair not in Cors().answer(HERE, preflight=preflight)


def test_the_lists_can_be_changed() -> None:
    cors = Cors(allow_methods="M", allow_headers="H", expose_headers="E", max_age="1")
    assert [value for _, value in cors.answer(HERE, preflight=True)[2:]] == [b"M", b"H", b"1"]
    assert [value for _, value in cors.answer(HERE, preflight=False)[2:]] == [b"E"]


ALLOWED = [
    (".*", b"https://app.example"),
    ("app", b"https://app.example"),
    (r"^https://app\.example$", b"https://app.example"),
    (".*", b"null"),
    (".*", b"\xff"),
]

REFUSED = [("^app", b"https://app.example"), (r"^https://app\.example$", b"https://app.example.evil"), ("x", b"")]


@pytest.mark.parametrize(("pattern", "origin"), ALLOWED)
def test_an_origin_may_match_anywhere(pattern: str, origin: bytes) -> None:
    answer = Cors(allow_origin=re.compile(pattern)).answer({b"origin": origin}, preflight=False)
    assert (b"access-control-allow-origin", origin) in answer


@pytest.mark.parametrize(("pattern", "origin"), REFUSED)
def test_other_origins_are_refused(pattern: str, origin: bytes) -> None:
    with pytest.raises(OriginNotAllowed) as refused:
        Cors(allow_origin=re.compile(pattern)).answer({b"origin": origin}, preflight=False)
    assert refused.value.headers == {"Vary": "Origin"}


def test_every_header_of_ours_can_be_sent_and_read() -> None:
    sent = {"Upload-Length", "Upload-Offset", "Tus-Resumable", "Upload-Metadata", "Upload-Defer-Length", "Upload-Concat"}
    assert sent | {"Upload-Checksum", "X-HTTP-Method-Override", "Content-Type"} <= set(ALLOW_HEADERS.split(", "))
    read = {"Location", "Upload-Expires", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm", "ETag"}
    assert read | (sent - {"Upload-Checksum"}) <= set(EXPOSE_HEADERS.split(", "))
