"""In which form a client wants bytes."""

from __future__ import annotations

from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.protocol.negotiation import IDENTITY, acceptable_codings, repr_digest

# Accept-Encoding, what of zstd and identity is acceptable
CODINGS = [
    (None, [IDENTITY]),
    (b"", [IDENTITY]),
    (b"zstd", ["zstd", IDENTITY]),
    (b"ZStd", ["zstd", IDENTITY]),
    (b"gzip, deflate, br, zstd", ["zstd", IDENTITY]),
    (b"gzip;q=1.0,zstd ; q=0.5", ["zstd", IDENTITY]),
    (b"zstd;q=0.001", ["zstd", IDENTITY]),
    (b"zstd;Q=1.000", ["zstd", IDENTITY]),
    (b"identity, zstd", ["zstd", IDENTITY]),
    (b"identity;q=0.5, zstd;q=0.5", ["zstd", IDENTITY]),
    (b"identity;q=0.5, zstd;q=0.499", [IDENTITY, "zstd"]),
    (b"identity, zstd;q=0.9", [IDENTITY, "zstd"]),
    (b"zstd;q=0", [IDENTITY]),
    (b"zstd;q=0.000, *", [IDENTITY]),
    (b"gzip", [IDENTITY]),
    (b"*", ["zstd", IDENTITY]),
    (b"*;q=0.1", ["zstd", IDENTITY]),
    (b"*;q=0.1, identity;q=0.2", [IDENTITY, "zstd"]),
    (b"*;q=0, zstd", ["zstd"]),
    (b"identity;q=0, zstd", ["zstd"]),
    (b"identity;q=0, *", ["zstd"]),
    (b"identity, *;q=0", [IDENTITY]),
    # nothing that there is: it gets what there is
    (b"identity;q=0", [IDENTITY]),
    (b"*;q=0", [IDENTITY]),
    (b"gzip;q=1, *;q=0", [IDENTITY]),
    # elements that can't be read count for nothing
    (b"zstd;q=2", [IDENTITY]),
    (b"zstd;q=0.1234", [IDENTITY]),
    (b"zstd;q=", [IDENTITY]),
    (b"zstd;level=3", [IDENTITY]),
    (b"zst d", [IDENTITY]),
    (b"zstd/1", [IDENTITY]),
    (b"\xff, zstd", ["zstd", IDENTITY]),
    (b",,zstd,", ["zstd", IDENTITY]),
]


@pytest.mark.parametrize(("value", "codings"), CODINGS)
def test_codings(value: bytes | None, codings: list[str]) -> None:
    assert list(acceptable_codings(value, ["zstd"])) == codings
    assert acceptable_codings(value, []) == (IDENTITY,)


def test_of_several_codings_the_most_wanted_comes_first() -> None:
    assert acceptable_codings(b"br;q=0.9, zstd, gzip;q=0", ["br", "gzip", "zstd"]) == ("zstd", "br", IDENTITY)
    assert acceptable_codings(b"zstd, br", ["br", "zstd"]) == ("br", "zstd", IDENTITY), "the store's order among equals"


@given(st.binary(max_size=40) | st.text("zstdgipq*;=0.1, \t", max_size=40).map(str.encode))
def test_nothing_breaks_it(value: bytes) -> None:
    codings = acceptable_codings(value, ["zstd"])
    assert codings and set(codings) <= {"zstd", IDENTITY}
    if b"zstd" not in value.lower() and b"*" not in value:
        assert codings == (IDENTITY,)
    assert repr_digest({"sha-256": b"x"}, value) in (b"", b"sha-256=:eA==:")


SHA256, BOTH = {"sha-256": bytes(range(32))}, {"sha-256": bytes(range(32)), "sha-512": bytes(64)}
FIELD = b"sha-256=:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:"


def test_digests_are_written_as_a_dictionary_of_byte_sequences() -> None:
    assert repr_digest(SHA256, None) == FIELD
    first, second = repr_digest(BOTH, None).split(b", ")
    assert first == FIELD and second.startswith(b"sha-512=:") and b64decode(second[9:-1]) == bytes(64)
    assert repr_digest({}, None) == b""


# Want-Repr-Digest, whether SHA-256 is sent
WANTED = [
    (b"", True),
    (b"sha-256=1", True),
    (b"sha-256=10, sha-512=3", True),
    (b"sha-512=3", True),
    (b"sha-256", True),
    (b"sha-256=0", False),
    (b"sha-512=3,sha-256=0", False),
    (b"sha-256=0;why=this", False),
    (b"sha-256=-0", False),
    (b"sha-256=5, sha-256=0", False),
    (b"sha-256=0, sha-256=5", True),
    # no dictionary: it says nothing
    (b"sha-256=0, =", True),
    (b"sha-256=0,", True),
    (b"SHA-256=0", True),
    (b"sha-256=", True),
    (b"sha-256=0.0", True),
    (b"\xff", True),
]


@pytest.mark.parametrize(("wanted", "sent"), WANTED)
def test_what_is_not_wanted_is_left_out(wanted: bytes, sent: bool) -> None:
    assert repr_digest(SHA256, wanted) == (FIELD if sent else b"")


def test_one_of_two_digests_may_be_refused() -> None:
    assert repr_digest(BOTH, b"sha-512=0") == FIELD
