"""Where credentials stand in a request."""

from __future__ import annotations

import pytest

from tests.authorization.support import request
from tusd_py.authorization.credentials import MAX_CREDENTIAL, bearer, challenge, header_value, query_value
from tusd_py.protocol.exchange import HttpRequest

BEARERS = [
    ("Bearer abc", "abc"),
    ("bearer   abc ", "abc"),
    ("Bearer", ""),
    ("Bearer " + "a" * (MAX_CREDENTIAL - 7), "a" * (MAX_CREDENTIAL - 7)),
    ("Basic abc", None),
    ("", None),
]


@pytest.mark.parametrize(("value", "token"), BEARERS)
def test_bearer_tokens(value: str, token: str | None) -> None:
    assert bearer(request(Authorization=value)) == token


def test_no_header_is_no_token() -> None:
    assert bearer(request()) is None
    assert header_value(request(), "Upload-Intent") is None


def test_what_is_too_long_is_no_credential() -> None:
    assert not bearer(request(bearer="a" * MAX_CREDENTIAL))
    assert header_value(request(Upload_Intent="a" * MAX_CREDENTIAL), "Upload-Intent") == "a" * MAX_CREDENTIAL
    assert header_value(request(Upload_Intent="a" * (MAX_CREDENTIAL + 1)), "Upload-Intent") == ""
    assert query_value(request("/?intent=" + "a" * (MAX_CREDENTIAL + 1)), "intent") == ""


def test_what_stands_there_twice_is_joined_so_that_neither_counts() -> None:
    twice = HttpRequest(headers={"Authorization": ("Bearer abc", "Bearer def")})
    assert bearer(twice) == "abc, Bearer def"
    assert query_value(request("/?a=x&a=y"), "a") == "x,y"


QUERIES = [
    ("/files/", None),
    ("/files/?", None),
    ("/files/?a", ""),
    ("/files/?a=", ""),
    ("/files/?a=b", "b"),
    ("/files/?b=c&a=b=d&c", "b=d"),
    ("/files/?A=b", None),
    ("/files/?aa=b&%61=b", None),
    ("/files/?a=%62+c", "%62+c"),
    ("http://h/files/?a=b", "b"),
    ("/files/?x=?a=b", None),
]


@pytest.mark.parametrize(("uri", "value"), QUERIES)
def test_parameters_are_taken_as_they_stand(uri: str, value: str | None) -> None:
    assert query_value(request(uri), "a") == value


def test_a_challenge_tells_of_an_error_only_where_there_was_a_credential() -> None:
    assert challenge() == {"WWW-Authenticate": 'Bearer realm="tusd-py"'}
    assert 'error="invalid_token", error_description="it has expired"' in challenge("it has expired")["WWW-Authenticate"]
