"""The format of upload intents, to the byte: what is signed is read back, and nothing else is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.authorization.support import NOW, TurnedClock, every_flip
from tusd_py.authorization.intents import (
    CLOCK_SKEW,
    MAX_INTENT,
    MAX_LIFETIME,
    Intent,
    InvalidIntent,
    read_intent,
    sign_intent,
    signed_url,
)
from tusd_py.authorization.signatures import sign
from tusd_py.protocol.upload import MAX_LENGTH

KEY, OTHER = b"k" * 32, b"o" * 32
NONCE = "n" * 22


def signed(**bounds: Any) -> str:
    return sign_intent(KEY, **{"clock": TurnedClock(), "expires_in": 60, **bounds})


def read(token: str, later: float = 0.0, keys: tuple[bytes, ...] = (KEY,)) -> Intent:
    return read_intent(token, keys, NOW + later)


def by_hand(payload: str | bytes, key: bytes = KEY, prefix: str = "ti1.") -> str:
    """As docs/reference/authorization.md says, with nothing of ours."""
    raw = payload.encode() if isinstance(payload, str) else payload
    begin = prefix + base64.urlsafe_b64encode(raw).decode().rstrip("=")
    mac = hmac.new(key, b"tusd-py upload intent\n" + begin.encode(), hashlib.sha256).digest()
    return begin + "." + base64.urlsafe_b64encode(mac).decode().rstrip("=")


BOUNDS: list[dict[str, Any]] = [
    {},
    {"owner": "alice"},
    {"owner": "Älice \U0001f600"},
    {"max_size": 0},
    {"max_size": MAX_LENGTH},
    {"metadata": {"folder": "inbox", "päth": "ä/ö", "empty": ""}},
    {"types": ("image/*", "application/vnd.api+json")},
    {"reusable": True},
    {"owner": "bob", "max_size": 1, "metadata": {"a": "b"}, "types": ("text/plain",), "reusable": True, "expires_in": 600},
]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_what_is_signed_is_read_back(bounds: dict[str, Any]) -> None:
    intent = read(signed(**bounds))
    expected = {"owner": None, "max_size": None, "metadata": {}, "types": (), "reusable": False, "expires_in": 60, **bounds}
    assert intent.expires == NOW + expected.pop("expires_in")
    assert {name: getattr(intent, name) for name in expected} == expected


def test_two_intents_are_never_the_same() -> None:
    assert len({read(signed()).nonce for _ in range(100)}) == 100


def test_other_languages_can_sign() -> None:
    payload = '{ "exp": 1800000060, "nonce": "abcdefghijklmnopqrstuv",\n "metadata": {"name": "\\u00e4"}, "max_size": 5 }'
    intent = read(by_hand(payload))
    assert (intent.expires, intent.max_size, intent.metadata) == (1800000060, 5, {"name": "ä"})


def test_an_intent_fits_into_urls_and_headers() -> None:
    token = signed(owner="Älice", metadata={"a/b?c": "&=#"})
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


URLS = [
    ("https://h/files/", "https://h/files/?intent="),
    ("https://h/files/?a=b", "https://h/files/?a=b&intent="),
    ("/files", "/files?intent="),
]


@pytest.mark.parametrize(("url", "begin"), URLS)
def test_urls(url: str, begin: str) -> None:
    made = signed_url(url, KEY, owner="alice", clock=TurnedClock())
    assert made.startswith(begin)
    assert read(made.removeprefix(begin)).owner == "alice"


def test_a_url_with_a_fragment_is_refused() -> None:
    with pytest.raises(ValueError, match="has a fragment"):
        signed_url("https://h/files/#x", KEY)


# Attacks


def refused(token: str, message: str = "not signed by a key", **more: Any) -> None:
    with pytest.raises(InvalidIntent, match=message):
        read(token, **more)


def test_no_bit_may_differ() -> None:
    for flipped in every_flip(signed(owner="alice")):
        refused(flipped)


def test_no_byte_may_be_missing_or_added() -> None:
    good = signed(owner="alice")
    for end in range(len(good)):
        refused(good[:end])
    for begin in range(1, len(good)):
        refused(good[begin:])
    for more in ("A", "=", ".", "\n", " ", "\0", "é"):
        refused(good + more)
        refused(more + good)


def test_the_last_character_of_a_signature_has_one_spelling() -> None:
    good = signed()
    alphabet = string.ascii_letters + string.digits + "-_"
    others = [good[:-1] + character for character in alphabet if character != good[-1]]
    assert base64.urlsafe_b64decode(good[-43:] + "=") in [base64.urlsafe_b64decode(each[-43:] + "=") for each in others]
    for other in others:
        refused(other)


def test_parts_of_two_intents_do_not_make_a_third() -> None:
    one, two = signed(max_size=1).split("."), signed(max_size=10**9).split(".")
    refused(".".join([one[0], two[1], one[2]]))
    refused(".".join([one[0], one[1], two[2]]))


def test_another_key_does_not_sign() -> None:
    refused(signed(), keys=(OTHER,))
    refused(by_hand(json.dumps({"exp": int(NOW) + 60, "nonce": NONCE}), key=b""))


def test_every_key_verifies_so_that_one_can_be_replaced() -> None:
    read(signed(), keys=(OTHER, KEY))
    read(signed(), keys=(KEY, OTHER))


def test_what_was_signed_as_something_else_is_no_intent() -> None:
    begin, _, _ = signed().rpartition(".")
    for context in ("", "tusd-py", "tusd-py url capability", "tusd-py upload intent\n"):
        refused(f"{begin}.{sign(KEY, context, begin)}")
    refused(f"{begin}.{base64.urlsafe_b64encode(hmac.digest(KEY, begin.encode(), 'sha256')).decode().rstrip('=')}")


def test_a_payload_has_one_spelling() -> None:
    raw = json.dumps({"exp": int(NOW) + 60, "nonce": NONCE + "x" * 4}).encode()
    assert len(raw) % 3 == 1, "so that the last character has unused bits"
    begin = "ti1." + base64.urlsafe_b64encode(raw).decode().rstrip("=")
    read(f"{begin}.{sign(KEY, 'tusd-py upload intent', begin)}")
    other = begin[:-1] + {"Q": "R", "0": "1"}[begin[-1]]
    refused(f"{other}.{sign(KEY, 'tusd-py upload intent', other)}", "can't be understood")


@pytest.mark.parametrize("prefix", ["", "ti0.", "ti2.", "TI1.", "ti1", "ti1..", "tc1."])
def test_other_versions_are_not_read(prefix: str) -> None:
    refused(by_hand(json.dumps({"exp": int(NOW) + 60, "nonce": NONCE}), prefix=prefix))


NONSENSE: list[str | bytes] = [
    "[]",
    "null",
    '"text"',
    "{",
    "{}",
    b"\xff",
    "[" * 3000,
    '{"nonce": "nnnnnnnnnnnnnnnnnnnnnn"}',
    '{"exp": 1800000060}',
    *(
        '{"exp": 1800000060, "nonce": "nnnnnnnnnnnnnnnnnnnnnn", ' + field + "}"
        for field in (
            '"max-size": 5',
            '"max_size": "5"',
            '"max_size": -1',
            '"max_size": 1.0',
            '"max_size": true',
            '"max_size": 9223372036854775808',
            '"owner": 5',
            '"owner": ""',
            '"owner": "a\\nb"',
            '"metadata": []',
            '"metadata": {"a": 5}',
            '"metadata": {"": "x"}',
            '"metadata": {"a b": "x"}',
            '"metadata": {"a,b": "x"}',
            '"metadata": {"a": "\\ud800"}',
            '"types": "image/*"',
            '"types": ["*/*"]',
            '"types": ["image"]',
            '"types": ["Image/PNG"]',
            '"types": [5]',
            '"reusable": 1',
            '"reusable": null',
            '"owner": "alice", "owner": "bob"',
            '"exp": 1800000061',
        )
    ),
    *(
        '{"exp": ' + exp + ', "nonce": "nnnnnnnnnnnnnnnnnnnnnn"}'
        for exp in ("1800000060.0", '"x"', "true", "-1", "0", "NaN", "1e9")
    ),
    *('{"exp": 1800000060, "nonce": ' + nonce + "}" for nonce in ('"short"', "5", '"' + "n" * 65 + '"', '"' + "é" * 22 + '"')),
]


@pytest.mark.parametrize("payload", NONSENSE)
def test_what_is_signed_and_makes_no_sense_is_refused(payload: str | bytes) -> None:
    refused(by_hand(payload), "can't be understood")


def test_an_overlong_intent_is_refused_before_it_is_hashed() -> None:
    content = {"exp": int(NOW) + 60, "nonce": NONCE, "metadata": {"a": "x" * MAX_INTENT}}
    refused(by_hand(json.dumps(content)))


EXPIRY = [(0, True), (60, True), (60 + CLOCK_SKEW - 1, True), (60 + CLOCK_SKEW, False), (1e9, False)]


@pytest.mark.parametrize(("later", "valid"), EXPIRY)
def test_expiry_to_the_second(later: float, valid: bool) -> None:
    token = signed()
    if valid:
        read(token, later)
    else:
        refused(token, "has expired", later=later)


@pytest.mark.parametrize(("ahead", "valid"), [(MAX_LIFETIME + CLOCK_SKEW, True), (MAX_LIFETIME + CLOCK_SKEW + 1, False)])
def test_what_expires_too_late_to_be_remembered_is_refused(ahead: float, valid: bool) -> None:
    token = by_hand(json.dumps({"exp": int(NOW + ahead), "nonce": NONCE}))
    if valid:
        read(token)
    else:
        refused(token, "too far in the future")


@given(st.text(max_size=200))
def test_reading_fails_only_as_documented(text: str) -> None:
    refused(text)


UNSIGNABLE: list[tuple[dict[str, Any], str]] = [
    ({"expires_in": 0}, "would expire in 0 s"),
    ({"expires_in": MAX_LIFETIME + 1}, "would expire in"),
    ({"expires_in": float("nan")}, "would expire in"),
    ({"owner": ""}, "expected an owner"),
    ({"max_size": -1}, "a number of bytes"),
    ({"max_size": 1.5}, "a number of bytes"),
    ({"metadata": {"a b": "c"}}, "without blanks"),
    ({"metadata": {"a": b"c"}}, "expected texts"),
    ({"metadata": {"a": "c" * MAX_INTENT}}, "less metadata"),
    ({"types": ("image",)}, "expected types"),
    ({"reusable": 1}, "true or false"),
]


@pytest.mark.parametrize(("bounds", "complaint"), UNSIGNABLE, ids=str)
def test_what_makes_no_sense_is_not_signed(bounds: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        signed(**bounds)


def test_a_short_secret_signs_nothing() -> None:
    with pytest.raises(ValueError, match="has 8 bytes: expected 32"):
        sign_intent("tooshort")


TYPES = [
    ((), None, True),
    ((), "image/png", True),
    (("image/png",), "image/png", True),
    (("image/png",), "IMAGE/PNG; charset=x", True),
    (("image/png",), "image/jpeg", False),
    (("image/png",), None, False),
    (("image/png",), "", False),
    (("image/*",), "image/jpeg", True),
    (("image/*",), "imagex/jpeg", False),
    (("image/*",), "image/", False),
    (("image/*",), "image", False),
    (("text/plain", "image/*"), "image/gif", True),
]


@pytest.mark.parametrize(("types", "filetype", "allowed"), TYPES)
def test_types(types: tuple[str, ...], filetype: str | None, allowed: bool) -> None:
    assert read(signed(types=types)).allows_type(filetype) == allowed
