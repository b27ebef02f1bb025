"""Upload-Checksum, and the algorithms behind it, against digests computed elsewhere."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.protocol.checksum import ALGORITHMS, Claim, build_checksum, parse_checksum
from tusd_py.protocol.refusals import ChecksumMismatch, InvalidChecksum

DIGITS = b"123456789"

# algorithm, input, digest in hexadecimal; from the standards or from another implementation
VECTORS = [
    ("sha1", b"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    ("sha1", b"hello world", "2aae6c35c94fcfb415dbe95f408b9ce91ee846ed"),
    ("md5", b"", "d41d8cd98f00b204e9800998ecf8427e"),
    ("md5", b"hello world", "5eb63bbbe01eeed093cb22bb8f5acdc3"),
    ("sha256", b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("sha256", DIGITS, hashlib.new("sha256", DIGITS).hexdigest()),
    ("sha512", DIGITS, hashlib.new("sha512", DIGITS).hexdigest()),
    ("crc32", b"", "00000000"),
    ("crc32", DIGITS, "cbf43926"),
    ("crc32", b"\0" * 32, f"{zlib.crc32(bytes(32)):08x}"),
    ("crc32c", b"", "00000000"),
    ("crc32c", DIGITS, "e3069283"),
    ("crc32c", b"\0" * 32, "8a9136aa"),  # RFC 3720, B.4
    ("crc32c", b"\xff" * 32, "62a8ab43"),
    ("blake3", b"", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    ("blake3", b"abc", "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
]


@pytest.mark.parametrize(("name", "data", "digest"), VECTORS)
def test_digests(name: str, data: bytes, digest: str) -> None:
    hasher = ALGORITHMS[name].start()
    hasher.update(data)
    assert hasher.digest().hex() == digest
    assert ALGORITHMS[name].size == len(digest) // 2


def test_every_algorithm_has_a_vector() -> None:
    assert {name for name, _, _ in VECTORS} == set(ALGORITHMS)


@pytest.mark.parametrize("name", ALGORITHMS)
@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_pieces_of_any_kind_make_the_same_digest(name: str, data: bytes, cut: int) -> None:
    whole, pieces = ALGORITHMS[name].start(), ALGORITHMS[name].start()
    whole.update(data)
    pieces.update(bytearray(data[:cut]))
    pieces.update(memoryview(data)[cut:])
    assert pieces.digest() == whole.digest()


@pytest.mark.parametrize("name", ALGORITHMS)
@given(data=st.data())
def test_reading_and_writing_are_inverse(name: str, data: st.DataObject) -> None:
    size = ALGORITHMS[name].size
    claim = Claim(name, data.draw(st.binary(min_size=size, max_size=size)))
    assert parse_checksum(build_checksum(claim).encode()) == claim


SHA1 = hashlib.sha1(b"hello world").digest()
ENCODED = base64.b64encode(SHA1)

READABLE = [b"sha1 " + ENCODED, b"SHA1 " + ENCODED, b"Sha1  " + ENCODED + b" ", b"  sha1 " + ENCODED]


@pytest.mark.parametrize("value", READABLE)
def test_case_and_blanks_do_not_matter(value: bytes) -> None:
    assert parse_checksum(value) == Claim("sha1", SHA1)


REFUSED = [
    (b"", "unsupported"),
    (b"sha1", "expected for sha1, got 0"),
    (b"sha1 ", "20 bytes expected for sha1, got 0"),
    (b"sha3 " + ENCODED, "one of sha1, md5, sha256, sha512, crc32, crc32c, blake3 expected"),
    (b"\xff " + ENCODED, "unsupported"),
    (b"sha1\t" + ENCODED, "unsupported"),
    (b"sha1:" + ENCODED, "unsupported"),
    (b"sha1 " + ENCODED[:-1], "base64"),
    (b"sha1 " + ENCODED + b"=", "base64"),
    (b"sha1 !!!!", "base64"),
    (b"sha1 \xff\xff", "base64"),
    (b"sha1 " + ENCODED + b", sha1 " + ENCODED, "base64"),
    (b"sha1 " + base64.urlsafe_b64encode(b"\xfb\xff" * 10), "base64"),
    (b"md5 " + ENCODED, "16 bytes expected for md5, got 20"),
    (b"CRC32 " + ENCODED, "4 bytes expected for crc32, got 20"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED)
def test_everything_else_is_refused(value: bytes, message: str) -> None:
    with pytest.raises(InvalidChecksum, match=message):
        parse_checksum(value)


@given(st.one_of(st.binary(), st.binary().map(lambda rest: b"sha1 " + rest)))
def test_reading_fails_only_as_documented(value: bytes) -> None:
    try:
        claim = parse_checksum(value)
    except InvalidChecksum:
        return
    assert parse_checksum(build_checksum(claim).encode()) == claim


def test_a_true_claim_passes() -> None:
    Claim("sha1", SHA1).check(SHA1)


@pytest.mark.parametrize("digest", [b"", SHA1[:-1], bytes(20), SHA1 + b"\0"])
def test_a_false_claim_does_not(digest: bytes) -> None:
    with pytest.raises(ChecksumMismatch):
        Claim("sha1", SHA1).check(digest)
