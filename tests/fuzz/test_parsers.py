"""Every parser against arbitrary input: it returns what it promises or raises what it documents, and inverse pairs agree.

tests/protocol and tests/infostore have the tables of cases; here nothing is known of the input.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tusd_py.cli.goflags import FlagError, HelpRequested, parse_flags
from tusd_py.cli.goregexp import GoRegexpError, compile_go
from tusd_py.cli.sources import VersionRequested, load
from tusd_py.cli.values import parse, parse_bool, parse_duration, parse_int, parse_octal, show, show_duration
from tusd_py.infostore.info_format import build_info, parse_info
from tusd_py.plugins import extension_settings
from tusd_py.ports.failures import RecordDamaged
from tusd_py.protocol.checksum import ALGORITHMS, Claim, build_checksum, parse_checksum
from tusd_py.protocol.concat import parse_concat, partial_id
from tusd_py.protocol.downloads import content_headers, select
from tusd_py.protocol.headers import collect_headers, has_token, is_media_type, parse_number, text_of
from tusd_py.protocol.ids import is_valid_id
from tusd_py.protocol.location import known_hosts, origin
from tusd_py.protocol.metadata import build_metadata, parse_metadata
from tusd_py.protocol.refusals import InvalidChecksum, InvalidConcat, InvalidMetadata, Refusal, UploadMissing
from tusd_py.protocol.rules import Policy
from tusd_py.protocol.tus1 import read_append, read_create
from tusd_py.protocol.upload import MAX_LENGTH, Upload
from tusd_py.settings import SettingsError, described
from tusd_py.transport.framing import ChunkedFraming

pytestmark = pytest.mark.filterwarnings("error")

EVERY_SETTING = described() + extension_settings()

PROFILE = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# A field value as a transport delivers it: any bytes but line breaks and NUL.
field_values = st.binary(max_size=80).map(lambda value: re.sub(rb"[\r\n\0]", b"", value).strip(b" \t"))


def made_of(*words: str) -> st.SearchStrategy[str]:
    """Text of these words in any order: what nearly is what a parser expects."""
    return st.lists(st.sampled_from(words), max_size=12).map("".join)


latin = st.text(st.characters(max_codepoint=255), max_size=60)
METADATA = made_of("key", " ", ",", "YQ==", "YQ", "=", "\t", "é", "\xff", "ÿ,", "a b,", "!")
CONCAT = made_of("final", "partial", ";", " ", "/files/", "a", "http://", "host", "%2e", "%", "?", "#", "\t", "..", "é")
RANGES = made_of("bytes", "=", "-", "0", "5", "99", ",", " ", "٣", "9" * 5000)
POSITIONS = st.one_of(st.sampled_from(["", "0", "9" * 5000]), st.integers(0, 110).map(str))
CHECKSUM = made_of("sha1", "SHA1", "crc32", " ", "AAAAAA==", "Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "=", "\t", "é", "x")
FORWARDED = made_of("host", "proto", "=", '"', ";", ",", "http", "https", ":443", ":80", "é", " ", "for")
REGEXP = made_of(
    *"()[]{}*+?|^$.-:<>PimsUaz019,=!&~é",
    *("\\", "\\d", "\\s", "\\S", "\\b", "\\Q", "\\E", "\\x", "\\pL", "[:alpha:]", "(?i)", "(?P<a>"),
)
GO_VALUE = made_of("1", "0", "_", "x", "o", "b", "e", ".", "-", "+", "h", "m", "s", "ms", "µs", "ns", " ", "true", "٣", "7")


@PROFILE
@given(st.one_of(latin, METADATA), st.booleans())
def test_metadata(header: str, strict: bool) -> None:
    try:
        metadata = parse_metadata(header, strict=strict)
    except InvalidMetadata:
        assert strict
        return
    again = parse_metadata(metadata.header, strict=True)  # what a HEAD shows is always well formed
    assert dict(again.pairs) == dict(metadata.pairs)
    metadata.header.encode("latin-1")
    for name, value in content_headers(metadata):
        assert not re.search(rb"[\r\n\0]", name + value)


@PROFILE
@given(st.dictionaries(st.text("abc-_é€😀", min_size=1, max_size=5), st.binary(max_size=20), max_size=4))
def test_metadata_round_trip(pairs: dict[str, bytes]) -> None:
    assert dict(parse_metadata(build_metadata(pairs), strict=True).pairs) == pairs


@PROFILE
@given(st.one_of(field_values, CHECKSUM.map(str.encode)))
def test_checksum(value: bytes) -> None:
    try:
        claim = parse_checksum(value)
    except InvalidChecksum:
        return
    assert len(claim.digest) == ALGORITHMS[claim.algorithm].size
    assert parse_checksum(build_checksum(claim).encode()) == claim


@given(st.sampled_from(sorted(ALGORITHMS)), st.data())
def test_checksum_round_trip(name: str, data: st.DataObject) -> None:
    claim = Claim(name, data.draw(st.binary(min_size=ALGORITHMS[name].size, max_size=ALGORITHMS[name].size)))
    assert parse_checksum(build_checksum(claim).encode()) == claim


@PROFILE
@given(st.one_of(latin, CONCAT), st.one_of(latin, CONCAT))
def test_concat(value: str, url: str) -> None:
    try:
        urls = parse_concat(value)
    except InvalidConcat:
        urls = ()
    for each in (*(urls or ()), url):
        try:
            assert is_valid_id(partial_id(each, "/files/", frozenset({"host"})))
        except (InvalidConcat, UploadMissing):
            continue


@PROFILE
@given(st.one_of(st.text(max_size=40), made_of("a", "/", ".", "..", ".info", "%", "\n", "~", " ", "é", "a" * 200)))
def test_ids_stay_inside(text: str) -> None:
    if is_valid_id(text):
        assert Path("/up", text).resolve().is_relative_to("/up") and len(Path(text).parts) == text.count("/") + 1
        assert not any(part.startswith(".") or part.endswith((".info", ".lock", ".stop")) for part in text.split("/"))
        assert text.isascii() and text.isprintable() and " " not in text


@PROFILE
@given(st.one_of(field_values, GO_VALUE.map(str.encode), st.integers(-5, MAX_LENGTH * 20).map(lambda number: b"%d" % number)))
def test_numbers(value: bytes) -> None:
    number = parse_number(value)
    if number is not None:
        assert 0 <= number <= MAX_LENGTH and value == b"%d" % number


@PROFILE
@given(
    st.dictionaries(
        st.sampled_from([b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"]),
        st.one_of(
            field_values,
            RANGES.map(str.encode),
            st.builds("bytes={}-{}".format, POSITIONS, POSITIONS).map(str.encode),
            st.sampled_from([b'"e"', b"*", b'W/"e"', b"Thu, 01 Jan 1970 00:00:05 GMT", b"Thu, 01 Jan 0001 00:00:00 +2359"]),
        ),
    ),
    st.integers(0, 100),
    st.sampled_from([None, b'"e"']),
    st.sampled_from([None, 5.5, 1e9]),
)
def test_ranges_and_conditions(headers: dict[bytes, bytes], size: int, etag: bytes | None, modified: float | None) -> None:
    selection = select(headers, size, etag, modified)
    assert selection.status in (200, 206, 304, 412, 416)
    assert 0 <= selection.start <= selection.end <= size
    if selection.status == 206:
        assert selection.start < selection.end
    if selection.status == 200:
        assert (selection.start, selection.end) == (0, size)


@PROFILE
@given(
    st.dictionaries(
        st.sampled_from([b"forwarded", b"x-forwarded-host", b"x-forwarded-proto", b"host"]),
        st.one_of(field_values, FORWARDED.map(str.encode)),
    ),
    st.booleans(),
)
def test_forwarded(headers: dict[bytes, bytes], behind_proxy: bool) -> None:
    here = origin(headers, b"http", b"here", behind_proxy=behind_proxy)
    assert here.startswith((b"http://", b"https://")) and not re.search(rb"[\r\n\0]", here)
    assert "here" in known_hosts(headers, b"here", behind_proxy=behind_proxy)
    if not behind_proxy:
        assert here == b"http://here"


@PROFILE
@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), field_values)), field_values)
def test_headers(pairs: list[tuple[bytes, bytes]], token: bytes) -> None:
    headers = collect_headers(pairs)
    assert headers.keys() == {name for name, _ in pairs}
    for value in headers.values():
        assert text_of(value).encode("latin-1") == value
        assert has_token(value, token) in (True, False) and is_media_type(value, token) in (True, False)


@PROFILE
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *(b"upload-length", b"upload-defer-length", b"upload-offset", b"upload-concat", b"upload-metadata", b"trailer"),
                *(b"upload-checksum", b"content-type", b"transfer-encoding"),
            ]
        ),
        st.one_of(
            field_values,
            st.one_of(METADATA.filter(lambda text: text.isascii()), CONCAT.filter(str.isascii), CHECKSUM).map(
                lambda text: text.encode().strip()
            ),
            st.sampled_from([b"application/offset+octet-stream", b"1", b"0", b"5", b"chunked", b"Upload-Checksum", b"partial"]),
        ),
    ),
)
def test_request_heads(headers: dict[bytes, bytes]) -> None:
    for read in (lambda: read_append(headers, "a"), lambda: read_create(headers, Policy(), lambda url: url)):
        try:
            read()
        except Refusal as refusal:
            assert 400 <= refusal.status < 500


@PROFILE
@given(st.data())
def test_chunked_framing_is_the_same_in_any_pieces(data: st.DataObject) -> None:
    """However the bytes are cut, payload, end, trailers and leftover are those of the whole."""
    words = (
        b"5\r\n",
        b"hello",
        b"\r\n",
        b"0\r\n",
        b"\r\n",
        b"a: b\r\n",
        b";x=y",
        b"\n",
        b"FFFFFFFFFFFFFFFF",
        b"g",
        b"1\r\nx\r\n",
    )
    stream = b"".join(data.draw(st.lists(st.one_of(st.sampled_from(words), st.binary(max_size=6)), max_size=12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert _framed([stream]) == _framed(pieces)


def _framed(pieces: list[bytes]) -> tuple[object, ...]:
    framing, payload, rest = ChunkedFraming(), b"", b""
    for piece in pieces:
        if framing.finished or framing.malformed:
            rest += piece
        elif piece:
            payload += b"".join(framing.feed(memoryview(piece)))
    leftover = framing.leftover + rest if framing.finished else None
    return payload, framing.finished, bool(framing.malformed), framing.trailers, leftover


# The command line and the configuration file


@PROFILE
@given(st.one_of(st.text(max_size=20), GO_VALUE))
def test_go_values(text: str) -> None:
    for read in (parse_bool, parse_int, parse_duration, parse_octal):
        try:
            value = read(text)
        except ValueError as error:
            assert str(error), "says what was expected"
            continue
        if read is parse_int:
            assert -(1 << 63) <= value < 1 << 63
        if read is parse_duration:
            assert value >= 0 and parse_duration(show_duration(value)) == pytest.approx(value, abs=1e-8)


@PROFILE
@given(st.one_of(st.text(max_size=20), GO_VALUE))
def test_settings_round_trip(text: str) -> None:
    for setting in EVERY_SETTING:
        try:
            value = parse(setting, text)
        except ValueError:
            continue
        # durations are floats of seconds, see test_go_values; a pattern is kept as Python's
        if setting.kind not in ("duration", "regexp"):
            assert parse(setting, show(setting, value)) == value, setting.name


@PROFILE
@given(st.one_of(st.text(max_size=30), REGEXP), st.text(max_size=10))
def test_go_regexps(pattern: str, text: str) -> None:
    try:
        compiled = compile_go(pattern)
    except GoRegexpError:
        return
    if "*" not in pattern and "+" not in pattern and "{" not in pattern:  # those may take Python for ever
        compiled.search(text)


FLAGS = [f"-{setting.flag}" for setting in EVERY_SETTING]
arguments = st.lists(
    st.one_of(
        st.sampled_from(
            [*FLAGS, "--", "-", "-h", "--help", "-version", "-config=/nonexistent", "-s3-bucket=x", "-expose-metrics"]
        ),
        st.builds("{}={}".format, st.sampled_from(FLAGS), st.one_of(GO_VALUE, st.text(max_size=10))),
        GO_VALUE,
        st.text(max_size=10),
    ),
    max_size=5,
)


@PROFILE
@given(arguments)
def test_command_lines(given_arguments: list[str]) -> None:
    with contextlib.suppress(FlagError, HelpRequested):
        list(parse_flags(given_arguments, {"a": "keep", "port": None, "verbose": "true"}))
    try:
        load(given_arguments, {})
    except (FlagError, HelpRequested, VersionRequested, SettingsError) as error:
        assert "\n" not in str(error)


names = st.one_of(
    st.sampled_from([setting.variable for setting in EVERY_SETTING]), st.text("ABC_=é", max_size=8).map("TUSD_PY_{}".format)
)


@PROFILE
@given(st.dictionaries(names, st.one_of(GO_VALUE, st.text(max_size=10)), max_size=3))
def test_environments(environ: dict[str, str]) -> None:
    try:
        load([], {name: value for name, value in environ.items() if name != "TUSD_PY_CONFIG"})
    except SettingsError as error:
        assert "\n" not in str(error)


toml_values = st.one_of(
    *(
        st.booleans().map(lambda value: str(value).lower()),
        st.integers().map(str),
        st.floats().map(str),
        GO_VALUE.map(json.dumps),
    ),
    *(st.sampled_from(["[]", "{}", "1979-05-27", "[1, 'a']", "''", "nan", "inf", "1e400"]), st.text(max_size=8)),
)
toml_lines = st.one_of(
    st.builds("{} = {}".format, st.sampled_from([setting.flag for setting in EVERY_SETTING]), toml_values),
    st.builds("{} = {}".format, st.sampled_from(["s3-bucket", "expose-metrics", "hooks-dir", "x", '"a b"']), toml_values),
    st.builds("{} = {}".format, st.sampled_from(["mode", "level", "chunk-size"]), toml_values),
    st.sampled_from(["[table]", "[cas]", "[[cas]]", "[cas.level]", "[[a]]", "# remark", "= 1", "port"]),
    st.text(max_size=12),
)


@PROFILE
@given(
    st.one_of(
        st.lists(toml_lines, max_size=3).map("\n".join).map(lambda text: text.encode("utf-8", "replace")),
        st.binary(max_size=20),
    )
)
def test_configuration_files(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(content)
        file.flush()
        try:
            load([f"-config={file.name}"], {})
        except SettingsError as error:
            assert str(error)


# Records

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
record_keys = st.sampled_from(
    [
        *("ID", "Size", "SizeIsDeferred", "Offset", "MetaData", "IsPartial", "IsFinal", "PartialUploads", "Storage", "TusdPy"),
        *("id", "size", "STORAGE", "\u017fize", "unknown"),
    ]
)
records = st.one_of(
    st.binary(max_size=40),
    st.dictionaries(record_keys, json_values).map(lambda record: json.dumps(record).encode()),
    st.dictionaries(
        st.sampled_from(["Version", "Metadata", "Concat", "Failure"]),
        st.one_of(json_values, st.just(1), METADATA),
    ).map(lambda extra: json.dumps({"TusdPy": extra}).encode()),
    st.integers(1, 200_000).map(lambda depth: b'{"ID":' + b"[" * depth),
)


@PROFILE
@given(records)
def test_records(data: bytes) -> None:
    try:
        upload = parse_info(data, "a")
    except RecordDamaged:
        return
    assert upload.length is None or 0 <= upload.length <= MAX_LENGTH
    written = build_info(upload, upload.storage)
    assert parse_info(written, "a") == upload


any_text = st.text(max_size=20)
uploads = st.builds(
    Upload,
    id=st.just("a"),
    length=st.one_of(st.none(), st.integers(0, MAX_LENGTH)),
    offset=st.integers(0, MAX_LENGTH),
    metadata=st.one_of(latin, METADATA).map(parse_metadata),
    is_partial=st.booleans(),
    partials=st.one_of(st.none(), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3).map(tuple)),
    concat=st.one_of(st.none(), latin),
    failure=st.one_of(st.none(), latin),
    storage=st.dictionaries(st.sampled_from(["Path", "Type"]), st.text("abc/é", max_size=10)),
)


@PROFILE
@given(uploads)
def test_records_round_trip(upload: Upload) -> None:
    data = build_info(upload, upload.storage)
    json.loads(data)
    assert parse_info(data, "a") == upload
