"""The dialect: request heads to commands, uploads to response heads."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.protocol.checksum import Claim
from tusd_py.protocol.commands import Append, Create, Payload
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.refusals import (
    AmbiguousUploadLength,
    InvalidChecksum,
    InvalidConcat,
    InvalidContentType,
    InvalidDeferLength,
    InvalidMetadata,
    InvalidOffset,
    InvalidUploadLength,
    Refusal,
    UnsupportedVersion,
)
from tusd_py.protocol.rules import Policy
from tusd_py.protocol.tus1 import (
    check_version,
    options_head,
    read_append,
    read_create,
    write_appended,
    write_created,
    write_described,
)
from tusd_py.protocol.upload import Upload

ANY = Policy()
TYPE = {b"content-type": b"application/offset+octet-stream"}
SHA1 = hashlib.sha1(b"hello").digest()
CHECKSUM = {b"upload-checksum": b"sha1 " + base64.b64encode(SHA1)}
CLAIM = Claim("sha1", SHA1)
CHUNKED = {b"transfer-encoding": b"chunked"}
TRAILER = {b"trailer": b"Upload-Checksum"}

Fields = dict[bytes, bytes]


def last_segment(url: str) -> str:
    return url.rpartition("/")[2]


# Versions


@pytest.mark.parametrize("required", [False, True])
def test_our_version_passes(required: bool) -> None:
    check_version({b"tus-resumable": b"1.0.0"}, required=required)


def test_browsers_may_leave_it_out() -> None:
    check_version({}, required=False)


@pytest.mark.parametrize("version", [None, b"", b"0.2.2", b"2.0.0", b"foo", b"1.0.0, 1.0.0"])
def test_other_versions_are_told_ours(version: bytes | None) -> None:
    with pytest.raises(UnsupportedVersion) as refused:
        check_version({} if version is None else {b"tus-resumable": version}, required=True)
    assert refused.value.headers == {"Tus-Version": "1.0.0"}
    if version is not None:
        with pytest.raises(UnsupportedVersion):
            check_version({b"tus-resumable": version}, required=False)


# Creation

LENGTH = {b"upload-length": b"10"}

CREATES: list[tuple[Fields, Create]] = [
    (LENGTH, Create(length=10)),
    ({b"upload-length": b"0"}, Create(length=0)),
    ({b"upload-defer-length": b"1"}, Create(length=None)),
    (LENGTH | {b"upload-defer-length": b""}, Create(length=10)),
    (LENGTH | {b"upload-metadata": b"a YQ=="}, Create(length=10, metadata=Metadata({"a": b"a"}, "a YQ=="))),
    (LENGTH | {b"upload-metadata": b""}, Create(length=10)),
    (LENGTH | {b"upload-metadata": b"a !"}, Create(length=10, metadata=Metadata())),
    (LENGTH | {b"upload-metadata": "à YQ==".encode()}, Create(length=10, metadata=Metadata({"à": b"a"}, "Ã\xa0 YQ=="))),
    (LENGTH | TYPE, Create(length=10, payload=Payload(0))),
    (LENGTH | TYPE | {b"content-length": b"5"}, Create(length=10, payload=Payload(5))),
    (LENGTH | TYPE | CHUNKED, Create(length=10, payload=Payload(None))),
    (LENGTH | TYPE | CHECKSUM | {b"content-length": b"5"}, Create(length=10, payload=Payload(5, CLAIM))),
    (LENGTH | {b"content-type": b"application/octet-stream", b"content-length": b"5"}, Create(length=10)),
    (LENGTH | {b"content-length": b"5"} | CHECKSUM, Create(length=10)),
    (LENGTH | {b"upload-concat": b"partial"}, Create(length=10, is_partial=True, concat="partial")),
    (LENGTH | {b"upload-concat": b""}, Create(length=10)),
    ({b"upload-concat": b"partial", b"upload-defer-length": b"1"}, Create(length=None, is_partial=True, concat="partial")),
    (
        {b"upload-concat": b"final;/files/a /files/b"},
        Create(length=None, partials=("a", "b"), concat="final;/files/a /files/b"),
    ),
    (LENGTH | {b"upload-concat": b"final;/files/a"}, Create(length=None, partials=("a",), concat="final;/files/a")),
    (
        {b"upload-concat": b"final;/files/a"} | TYPE,
        Create(length=None, partials=("a",), concat="final;/files/a", payload=Payload(0)),
    ),
]


@pytest.mark.parametrize(("headers", "command"), CREATES)
def test_a_post_is_read(headers: Fields, command: Create) -> None:
    assert read_create(headers, ANY, last_segment) == command


BAD_CREATES: list[tuple[Fields, type[Refusal]]] = [
    ({}, InvalidUploadLength),
    ({b"upload-length": b""}, InvalidUploadLength),
    ({b"upload-length": b"-1"}, InvalidUploadLength),
    ({b"upload-length": b"5, 7"}, InvalidUploadLength),
    (LENGTH | {b"upload-defer-length": b"1"}, AmbiguousUploadLength),
    ({b"upload-length": b"x", b"upload-defer-length": b"2"}, AmbiguousUploadLength),
    ({b"upload-defer-length": b"0"}, InvalidDeferLength),
    ({b"upload-defer-length": b"01"}, InvalidDeferLength),
    ({b"upload-defer-length": b"true"}, InvalidDeferLength),
    ({b"upload-defer-length": b""}, InvalidUploadLength),
    ({b"upload-concat": b"partial"}, InvalidUploadLength),
    (LENGTH | {b"upload-concat": b"other"}, InvalidConcat),
    (LENGTH | {b"upload-concat": b"final;"}, InvalidConcat),
    (LENGTH | TYPE | {b"upload-checksum": b"sha1 !"}, InvalidChecksum),
    (LENGTH | TYPE | {b"upload-checksum": b""}, InvalidChecksum),
]


@pytest.mark.parametrize(("headers", "refusal"), BAD_CREATES)
def test_a_bad_post_is_refused(headers: Fields, refusal: type[Refusal]) -> None:
    with pytest.raises(refusal):
        read_create(headers, ANY, last_segment)


def test_bad_metadata_is_refused_where_the_policy_says_so() -> None:
    with pytest.raises(InvalidMetadata):
        read_create(LENGTH | {b"upload-metadata": b"a !"}, Policy(strict_metadata=True), last_segment)


def test_partials_are_not_looked_for_where_there_are_none() -> None:
    def never(url: str) -> str:
        raise AssertionError(url)

    policy = Policy(concatenation=False)
    assert read_create({b"upload-concat": b"final;/files/a"}, policy, never).partials == ()


# Appending

OFFSET = {b"upload-offset": b"5"}

APPENDS: list[tuple[Fields, Append]] = [
    (TYPE | OFFSET, Append(upload_id="a", offset=5, payload=Payload(0))),
    (TYPE | OFFSET | {b"content-length": b"7"}, Append(upload_id="a", offset=5, payload=Payload(7))),
    (TYPE | OFFSET | CHUNKED, Append(upload_id="a", offset=5, payload=Payload(None))),
    (TYPE | OFFSET | LENGTH, Append(upload_id="a", offset=5, payload=Payload(0), length=10)),
    (TYPE | OFFSET | {b"upload-length": b""}, Append(upload_id="a", offset=5, payload=Payload(0))),
    (TYPE | OFFSET | CHECKSUM, Append(upload_id="a", offset=5, payload=Payload(0, CLAIM))),
    (TYPE | OFFSET | CHUNKED | TRAILER, Append(upload_id="a", offset=5, payload=Payload(None, None, True))),
    (TYPE | OFFSET | CHUNKED | {b"trailer": b"x-other"}, Append(upload_id="a", offset=5, payload=Payload(None))),
    (TYPE | OFFSET | {b"trailer": b"x-other"}, Append(upload_id="a", offset=5, payload=Payload(0))),
    (TYPE | OFFSET | {b"upload-concat": b"partial"}, Append(upload_id="a", offset=5, payload=Payload(0))),
]


@pytest.mark.parametrize(("headers", "command"), APPENDS)
def test_a_patch_is_read(headers: Fields, command: Append) -> None:
    assert read_append(headers, "a") == command


BAD_APPENDS: list[tuple[Fields, type[Refusal]]] = [
    ({}, InvalidContentType),
    (OFFSET, InvalidContentType),
    (OFFSET | {b"content-type": b"application/octet-stream"}, InvalidContentType),
    (TYPE, InvalidOffset),
    (TYPE | {b"upload-offset": b"+5"}, InvalidOffset),
    (TYPE | {b"upload-offset": b"9223372036854775808"}, InvalidOffset),
    (TYPE | OFFSET | {b"upload-length": b"ten"}, InvalidUploadLength),
    (TYPE | OFFSET | {b"upload-checksum": b"sha1"}, InvalidChecksum),
    (TYPE | OFFSET | CHUNKED | TRAILER | CHECKSUM, InvalidChecksum),
    (TYPE | OFFSET | TRAILER, InvalidChecksum),
]


@pytest.mark.parametrize(("headers", "refusal"), BAD_APPENDS)
def test_a_bad_patch_is_refused(headers: Fields, refusal: type[Refusal]) -> None:
    with pytest.raises(refusal):
        read_append(headers, "a")


NAMES = [
    *(b"upload-length", b"upload-defer-length", b"upload-offset", b"upload-metadata", b"upload-concat", b"upload-checksum"),
    *(b"content-type", b"trailer", b"transfer-encoding", b"tus-resumable"),
]
VALUES = st.one_of(
    st.binary(max_size=20), st.sampled_from([b"1", b"10", b"partial", b"final;/a", TYPE[b"content-type"], b"chunked"])
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES), st.booleans())
def test_reading_fails_only_by_refusals(headers: Fields, strict: bool) -> None:
    for read in (
        lambda: read_create(headers, Policy(strict_metadata=strict), last_segment),
        lambda: read_append(headers, "a"),
        lambda: check_version(headers, required=strict),
    ):
        try:
            read()
        except Refusal as refusal:
            assert 400 <= refusal.status < 500


# Answers

EXPIRY = Policy(expiry=3600.0)
EXPIRES = (b"upload-expires", b"Thu, 01 Jan 1970 01:16:40 GMT")
NO_STORE = (b"cache-control", b"no-store")
PART = Upload(id="a", length=10, offset=4, active_at=1000.0)
FINAL = Upload(id="f", length=10, partials=("a", "b"), concat="final;/x/a /x/b")


def url_of(upload_id: str) -> bytes:
    return b"http://here/" + upload_id.encode()


def test_created() -> None:
    head = write_created(PART, b"http://here/a", ANY)
    assert head == [(b"location", b"http://here/a"), (b"content-length", b"0"), (b"upload-offset", b"4")]
    assert write_created(PART, b"http://here/a", EXPIRY) == [*head, EXPIRES]


def test_a_final_has_no_offset_before_it_is_finished() -> None:
    names = [name for name, _ in write_created(FINAL, b"http://here/f", ANY)]
    assert names == [b"location", b"content-length"]
    assert (b"upload-offset", b"10") in write_created(FINAL.evolve(offset=10), b"http://here/f", ANY)


def test_appended() -> None:
    assert write_appended(PART, ANY) == [(b"upload-offset", b"4")]
    assert write_appended(PART, EXPIRY) == [(b"upload-offset", b"4"), EXPIRES]
    assert write_appended(PART.evolve(offset=10), EXPIRY) == [(b"upload-offset", b"10")]


DESCRIBED: list[tuple[Upload, list[tuple[bytes, bytes]]]] = [
    (PART, [(b"upload-offset", b"4"), (b"upload-length", b"10")]),
    (PART.evolve(length=None), [(b"upload-offset", b"4"), (b"upload-defer-length", b"1")]),
    (
        PART.evolve(metadata=Metadata({"à": b"\xff"}, "Ã\xa0 /w==")),
        [(b"upload-offset", b"4"), (b"upload-length", b"10"), (b"upload-metadata", "à /w==".encode())],
    ),
    (
        PART.evolve(is_partial=True, concat="partial"),
        [(b"upload-offset", b"4"), (b"upload-length", b"10"), (b"upload-concat", b"partial")],
    ),
    (
        PART.evolve(is_partial=True),
        [(b"upload-offset", b"4"), (b"upload-length", b"10"), (b"upload-concat", b"partial")],
    ),
    (FINAL, [(b"upload-length", b"10"), (b"upload-concat", b"final;/x/a /x/b")]),
    (FINAL.evolve(length=None), [(b"upload-concat", b"final;/x/a /x/b")]),
    (
        FINAL.evolve(offset=10),
        [(b"upload-offset", b"10"), (b"upload-length", b"10"), (b"upload-concat", b"final;/x/a /x/b")],
    ),
    (FINAL.evolve(concat=None), [(b"upload-length", b"10"), (b"upload-concat", b"final;http://here/a http://here/b")]),
]


@pytest.mark.parametrize(("upload", "head"), DESCRIBED)
def test_described(upload: Upload, head: list[tuple[bytes, bytes]]) -> None:
    assert write_described(upload, ANY, url_of) == [NO_STORE, *head]


def test_a_description_tells_when_the_upload_expires() -> None:
    assert write_described(PART, EXPIRY, url_of)[-1] == EXPIRES


ALL = b"creation,creation-with-upload,creation-defer-length,checksum,checksum-trailer"

OPTIONS = [
    (ANY, ALL + b",termination,concatenation,concatenation-unfinished", None),
    (EXPIRY, ALL + b",expiration,termination,concatenation,concatenation-unfinished", None),
    (Policy(termination=False, concatenation=False, max_size=0), ALL, b"0"),
    (Policy(termination=False, max_size=99), ALL + b",concatenation,concatenation-unfinished", b"99"),
]


@pytest.mark.parametrize(("policy", "extensions", "max_size"), OPTIONS)
def test_what_the_server_can_do(policy: Policy, extensions: bytes, max_size: bytes | None) -> None:
    head = dict(options_head(policy))
    assert head.pop(b"tus-version") == b"1.0.0"
    assert head.pop(b"tus-extension") == extensions
    assert head.pop(b"tus-checksum-algorithm") == b"sha1,md5,sha256,sha512,crc32,crc32c,blake3"
    assert head.pop(b"tus-max-size", None) == max_size
    assert not head
