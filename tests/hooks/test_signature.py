"""Signatures of web hooks: what vouches for a message, and what does not."""

from __future__ import annotations

import base64

import pytest

from tusd_py.hooks.signature import SignatureError, parse_secret, sign, verify

SECRET = b"\x01\x02\x03\x04" * 6
BODY = b'{"Type":"post-finish"}'
NOW = 1_700_000_000
HEADERS = sign(SECRET, "msg_1", NOW, BODY)


def test_a_signed_message_is_verified() -> None:
    assert verify(SECRET, HEADERS, BODY, now=NOW) == "msg_1"


def test_the_example_of_standard_webhooks() -> None:
    """From the specification's test vector: secret, id, timestamp, body and signature are its own."""
    secret = parse_secret(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')["webhook-signature"] == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_names_of_headers_are_read_in_any_case() -> None:
    assert verify(SECRET, {name.title(): value for name, value in HEADERS.items()}, BODY, now=NOW) == "msg_1"


def test_one_good_signature_among_several_is_enough() -> None:
    several = f"v1a,abc v1,!!! v1,AAAA {HEADERS['webhook-signature']}"
    assert verify(SECRET, {**HEADERS, "webhook-signature": several}, BODY, now=NOW) == "msg_1"


@pytest.mark.parametrize(
    ("changes", "body", "secret"),
    [
        ({}, BODY + b" ", SECRET),
        ({}, BODY, SECRET[::-1]),
        ({"webhook-id": "msg_2"}, BODY, SECRET),
        ({"webhook-timestamp": str(NOW + 1)}, BODY, SECRET),
        ({"webhook-signature": "v1,AAAA"}, BODY, SECRET),
        ({"webhook-signature": "v2" + HEADERS["webhook-signature"][2:]}, BODY, SECRET),
        ({"webhook-signature": ""}, BODY, SECRET),
        ({"webhook-signature": "v1,gr\u00fcn"}, BODY, SECRET),
    ],
    ids=["body", "secret", "id", "timestamp", "signature", "version", "none", "no ASCII"],
)
def test_what_was_tampered_with_is_refused(changes: dict[str, str], body: bytes, secret: bytes) -> None:
    with pytest.raises(SignatureError, match="not of this message and secret"):
        verify(secret, {**HEADERS, **changes}, body, now=NOW)


@pytest.mark.parametrize("age", [301, -301, 86400])
def test_a_message_sent_again_later_is_refused(age: int) -> None:
    with pytest.raises(SignatureError, match="not signed within 300 seconds"):
        verify(SECRET, HEADERS, BODY, now=NOW + age)


@pytest.mark.parametrize("age", [300, -300, 0])
def test_clocks_may_differ(age: int) -> None:
    assert verify(SECRET, HEADERS, BODY, now=NOW + age)
    with pytest.raises(SignatureError):
        verify(SECRET, HEADERS, BODY, now=NOW + age, tolerance=abs(age) - 1)


@pytest.mark.parametrize("missing", sorted(HEADERS))
def test_a_missing_header_is_named(missing: str) -> None:
    with pytest.raises(SignatureError, match=missing):
        verify(SECRET, {name: value for name, value in HEADERS.items() if name != missing}, BODY, now=NOW)


@pytest.mark.parametrize("timestamp", ["", "x", "1e9", "-1", "\u0661", "9" * 5000, "1.5"])
def test_a_timestamp_is_a_number(timestamp: str) -> None:
    with pytest.raises(SignatureError, match="no number"):
        verify(SECRET, {**HEADERS, "webhook-timestamp": timestamp}, BODY, now=NOW)


def test_the_clock_is_the_machines_unless_told() -> None:
    with pytest.raises(SignatureError, match="not signed within"):
        verify(SECRET, HEADERS, BODY)


def test_secrets_are_bytes_or_base64() -> None:
    assert parse_secret(b"  sixteen bytes ok\n") == b"sixteen bytes ok"
    assert parse_secret(b"whsec_" + base64.b64encode(SECRET) + b"\n") == SECRET


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "0 bytes: expected at least 16"),
        (b"fifteen bytes..", "15 bytes: expected at least 16"),
        (b"whsec_AAAA", "3 bytes: expected at least 16"),
        (b"whsec_!", "no base64"),
    ],
)
def test_secrets_that_can_be_guessed_are_refused(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_secret(text)
