"""Scheme and host as the client knows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.protocol.location import known_hosts, origin

FORWARDED: list[tuple[dict[bytes, bytes], bytes]] = [
    ({}, b"http://here:1080"),
    ({b"x-forwarded-host": b"there"}, b"http://there"),
    ({b"x-forwarded-host": b"there:80"}, b"http://there"),
    ({b"x-forwarded-host": b"there:443"}, b"http://there:443"),
    ({b"x-forwarded-host": b"there, proxy"}, b"http://there"),
    ({b"x-forwarded-host": b" , proxy"}, b"http://here:1080"),
    ({b"x-forwarded-proto": b"https"}, b"https://here:1080"),
    ({b"x-forwarded-proto": b"HTTPS"}, b"https://here:1080"),
    ({b"x-forwarded-proto": b"https, http"}, b"https://here:1080"),
    ({b"x-forwarded-proto": b"gopher"}, b"http://here:1080"),
    ({b"x-forwarded-proto": b"https", b"x-forwarded-host": b"there:443"}, b"https://there"),
    ({b"x-forwarded-proto": b"https", b"x-forwarded-host": b"there:80"}, b"https://there:80"),
    ({b"forwarded": b'host="there:8443";proto=https'}, b"https://there:8443"),
    ({b"forwarded": b"for=1.2.3.4; Proto=HTTPS ;HOST=there"}, b"https://there"),
    ({b"forwarded": b"host=there;proto=https, host=proxy;proto=http"}, b"https://there"),
    ({b"forwarded": b"for=1.2.3.4"}, b"http://here:1080"),
    ({b"forwarded": b"host=there", b"x-forwarded-host": b"other", b"x-forwarded-proto": b"https"}, b"https://there"),
    ({b"forwarded": b"proto=https", b"x-forwarded-host": b"other", b"x-forwarded-proto": b"http"}, b"https://other"),
    ({b"forwarded": b";;=;host"}, b"http://here:1080"),
]


@pytest.mark.parametrize(("headers", "wanted"), FORWARDED)
def test_behind_a_proxy(headers: dict[bytes, bytes], wanted: bytes) -> None:
    assert origin(headers, b"http", b"here:1080", behind_proxy=True) == wanted


@pytest.mark.parametrize(("headers", "wanted"), FORWARDED)
def test_nobody_is_believed_without_one(headers: dict[bytes, bytes], wanted: bytes) -> None:
    assert origin(headers, b"http", b"here:1080", behind_proxy=False) == b"http://here:1080"
    assert known_hosts(headers, b"here:1080", behind_proxy=False) == {"here:1080"}


def test_an_unknown_scheme_of_the_connection_has_no_default_port() -> None:
    headers = {b"x-forwarded-host": b"there:80"}
    assert origin(headers, b"unix", b"here", behind_proxy=True) == b"unix://there:80"


HOSTS: list[tuple[dict[bytes, bytes], set[str]]] = [
    ({}, {"here:1080"}),
    ({b"x-forwarded-host": b"There"}, {"here:1080", "there"}),
    ({b"x-forwarded-host": b"there:80"}, {"here:1080", "there", "there:80"}),
    ({b"x-forwarded-host": b"there:80", b"x-forwarded-proto": b"http"}, {"here:1080", "there"}),
    ({b"forwarded": b"host=there:8443;proto=https"}, {"here:1080", "there:8443"}),
]


@pytest.mark.parametrize(("headers", "wanted"), HOSTS)
def test_the_hosts_a_client_may_name(headers: dict[bytes, bytes], wanted: set[str]) -> None:
    assert known_hosts(headers, b"Here:1080", behind_proxy=True) == wanted


@given(st.fixed_dictionaries({name: st.binary() for name in (b"forwarded", b"x-forwarded-host", b"x-forwarded-proto")}))
def test_no_header_can_break_it(headers: dict[bytes, bytes]) -> None:
    scheme, _, host = origin(headers, b"http", b"here", behind_proxy=True).partition(b"://")
    assert scheme in (b"http", b"https")
    assert host.decode("latin-1").lower() in known_hosts(headers, b"here", behind_proxy=True)
