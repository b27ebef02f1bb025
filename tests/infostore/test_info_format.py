"""tusd's record, to the letter: one table of cases read in both directions, and what Go tolerates."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.infostore.info_format import build_info, parse_info
from tusd_py.ports.failures import RecordDamaged
from tusd_py.protocol.metadata import Metadata, build_metadata, parse_metadata
from tusd_py.protocol.upload import MAX_LENGTH, Upload

STORAGE = {"Type": "filestore", "Path": "/abs/dir/cd8e", "InfoPath": "/abs/dir/cd8e.info"}
STORED = '"Storage":{"InfoPath":"/abs/dir/cd8e.info","Path":"/abs/dir/cd8e","Type":"filestore"}'

CASES = [
    (
        Upload(id="cd8e", length=11, metadata=parse_metadata("filename YS50eHQ=")),
        '{"ID":"cd8e","Size":11,"SizeIsDeferred":false,"Offset":0,"MetaData":{"filename":"a.txt"},"IsPartial":false,'
        f'"IsFinal":false,"PartialUploads":null,{STORED},"TusdPy":{{"Version":1,"Metadata":"filename YS50eHQ="}}}}',
    ),
    (
        Upload(id="cd8e", length=None, is_partial=True, concat="partial"),
        '{"ID":"cd8e","Size":0,"SizeIsDeferred":true,"Offset":0,"MetaData":{},"IsPartial":true,'
        f'"IsFinal":false,"PartialUploads":null,{STORED},"TusdPy":{{"Version":1,"Concat":"partial"}}}}',
    ),
    (
        Upload(id="cd8e", length=9, offset=9, partials=("a", "b/c"), concat="final;/files/a /files/b/c", failure='"why"'),
        '{"ID":"cd8e","Size":9,"SizeIsDeferred":false,"Offset":9,"MetaData":{},"IsPartial":false,'
        f'"IsFinal":true,"PartialUploads":["a","b/c"],{STORED},'
        '"TusdPy":{"Version":1,"Concat":"final;/files/a /files/b/c","Failure":"\\"why\\""}}',
    ),
    (
        Upload(id="cd8e", length=MAX_LENGTH, partials=()),
        '{"ID":"cd8e","Size":9223372036854775807,"SizeIsDeferred":false,"Offset":0,"MetaData":{},"IsPartial":false,'
        f'"IsFinal":true,"PartialUploads":[],{STORED}}}',
    ),
]


@pytest.mark.parametrize(("upload", "text"), CASES)
def test_records_are_written_to_the_letter(upload: Upload, text: str) -> None:
    assert build_info(upload, STORAGE).decode() == text


@pytest.mark.parametrize(("upload", "text"), CASES)
def test_records_are_read_as_they_were_written(upload: Upload, text: str) -> None:
    assert parse_info(text.encode(), "cd8e") == upload.evolve(storage=STORAGE)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"plain", '"plain"'),
        ("ünïcode \U0001f600".encode(), '"ünïcode \U0001f600"'),
        (b"<a href=\"x\">&'", '"\\u003ca href=\\"x\\"\\u003e\\u0026\'"'),
        ("\u2028\u2029".encode(), '"\\u2028\\u2029"'),
        (b"\0\1\x1f\x7f", '"\\u0000\\u0001\\u001f\x7f"'),
        (b"\n\r\t\\", '"\\n\\r\\t\\\\"'),
        (b"a\xff\xfeb", '"a\\ufffd\\ufffdb"'),
        (b"cut \xe2\x82", '"cut \\ufffd\\ufffd"'),
        (b"surrogate \xed\xa0\x80", '"surrogate \\ufffd\\ufffd\\ufffd"'),
        ("\ufffd".encode(), '"\ufffd"'),
    ],
)
def test_values_are_escaped_as_go_does(value: bytes, written: str) -> None:
    upload = Upload(id="x", length=1, metadata=Metadata({"key": value}, build_metadata({"key": value})))
    data = build_info(upload, {})
    assert f'"MetaData":{{"key":{written}}}' in data.decode()
    assert b"\n" not in data
    assert parse_info(data, "x").metadata == upload.metadata


def test_maps_are_sorted_and_the_clients_order_survives() -> None:
    upload = Upload(id="x", length=1, metadata=parse_metadata("z emE=,a YQ==,empty"))
    data = build_info(upload, {"Z": "1", "A": "2"})
    assert b'"MetaData":{"a":"a","empty":"","z":"za"}' in data
    assert b'"Storage":{"A":"2","Z":"1"}' in data
    found = parse_info(data, "x").metadata
    assert list(found.pairs) == ["z", "a", "empty"]
    assert found.header == "z emE=,a YQ==,empty"


keys = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1, max_size=8)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
metadata = st.dictionaries(keys, st.binary(max_size=12), max_size=4).map(lambda pairs: parse_metadata(build_metadata(pairs)))
uploads = st.builds(
    Upload,
    id=st.just("id"),
    length=st.none() | st.integers(0, MAX_LENGTH),
    offset=st.integers(0, MAX_LENGTH),
    metadata=metadata,
    is_partial=st.booleans(),
    partials=st.none() | st.lists(texts, max_size=3).map(tuple),
    concat=st.none() | texts,
    failure=st.none() | texts,
    storage=st.dictionaries(texts, texts, max_size=3),
)


@given(uploads)
def test_any_record_survives_the_round_trip(upload: Upload) -> None:
    assert parse_info(build_info(upload, upload.storage), "id") == upload


@given(uploads)
def test_any_record_is_json_on_one_line(upload: Upload) -> None:
    data = build_info(upload, upload.storage)
    assert b"\n" not in data
    assert list(json.loads(data))[:9] == [
        "ID", "Size", "SizeIsDeferred", "Offset", "MetaData", "IsPartial", "IsFinal", "PartialUploads", "Storage",
    ]  # fmt: skip


TUSD = (
    b'{"ID":"24e533e02ec3bc40c387f1a0e460e216","Size":5'
    b',"SizeIsDeferred":false,"Offset":0,"MetaData":{"z":"1","filename":"a b"},'
    b'"IsPartial":true,"IsFinal":false,"PartialUploads":null,"Storage":{"InfoPath":"/d/x.info","Path":"/d/x","Type":"filestore"}}'
)


def test_a_record_by_tusd_is_read() -> None:
    upload = parse_info(TUSD, "asked-for")
    assert upload.id == "asked-for", "the id asked for, not the one inside"
    assert (upload.length, upload.is_partial, upload.partials) == (5, True, None)
    assert upload.metadata == Metadata({"filename": b"a b", "z": b"1"}, "filename YSBi,z MQ==")
    assert upload.storage == {"InfoPath": "/d/x.info", "Path": "/d/x", "Type": "filestore"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"ID":"x","Size":5}', Upload(id="x", length=5)),
        ("{}", Upload(id="x", length=0)),
        (' {"size":5,"METADATA":{"K":"v"}} \n', Upload(id="x", length=5, metadata=Metadata({"K": b"v"}, "K dg=="))),
        ('{"Size":4,"size":5}', Upload(id="x", length=5)),
        ('{"Size":5,"MetaData":null,"Storage":null,"PartialUploads":null}', Upload(id="x", length=5)),
        ('{"Size":null,"SizeIsDeferred":null}', Upload(id="x", length=0)),
        ('{"Size":5,"Unknown":{"deep":[1,2,{"x":null}]},"Zahl":1.5}', Upload(id="x", length=5)),
        ('{"Size":5,"SizeIsDeferred":true}', Upload(id="x", length=None)),
        ('{"Size":5,"IsFinal":true}', Upload(id="x", length=5, partials=())),
        ('{"Size":5,"IsFinal":true,"PartialUploads":null}', Upload(id="x", length=5, partials=())),
        ('{"Size":5,"IsFinal":false,"PartialUploads":["a"]}', Upload(id="x", length=5)),
        ('{"Size":5,"Offset":-1}', Upload(id="x", length=5)),
        ('{"Size":5,"TusdPy":null}', Upload(id="x", length=5)),
        ('{"Size":5,"tusdpy":{"VERSION":1,"concat":"partial","Later":1}}', Upload(id="x", length=5, concat="partial")),
        ('{"Size":5,"MetaData":{"k":"\\ud800"}}', Upload(id="x", length=5, metadata=parse_metadata("k 77+9"))),
    ],
)
def test_what_go_tolerates_is_tolerated(text: str, expected: Upload) -> None:
    assert parse_info(text.encode(), "x") == expected


def test_bytes_that_are_no_utf8_are_tolerated() -> None:
    assert parse_info(b'{"Size":5,"Storage":{"Path":"/d/\xff"}}', "x").storage == {"Path": "/d/\ufffd"}


def test_edited_metadata_beats_the_clients_own() -> None:
    data = build_info(Upload(id="x", length=5, metadata=parse_metadata("z emE=,a YQ==")), {})
    edited = parse_info(data.replace(b'"a":"a"', b'"b":"b"'), "x")
    assert edited.metadata == Metadata({"b": b"b", "z": b"za"}, "b Yg==,z emE=")


@pytest.mark.parametrize(
    "text",
    ["", " ", "null", "5", "[]", '"x"', "{", '{"Size":5', '{"Size":5}}', '{"Size":5}{}', "\ufeff{}", "not json", "\0\0\0\0"]
    + [f'{{"Size":{size}}}' for size in ("-1", "5.0", "1e3", '"5"', "true", "[]", "{}", str(2**63), "9" * 5000)]
    + [f'{{"Size":5,"{key}":{value}}}' for key in ("SizeIsDeferred", "IsPartial", "IsFinal") for value in ("0", '"true"', "[]")]
    + [f'{{"Size":5,"{key}":{value}}}' for key in ("MetaData", "Storage") for value in ("[]", '"x"', '{"k":1}', '{"k":null}')]
    + [f'{{"Size":5,"IsFinal":true,"PartialUploads":{value}}}' for value in ("{}", '"a"', "[1]", "[null]")]
    + [f'{{"Size":5,"Offset":{value}}}' for value in ('"0"', "0.5", str(2**63), str(-(2**64)))]
    + [f'{{"Size":5,"TusdPy":{value}}}' for value in ("[]", '{"Version":2}', '{"Version":"1"}', '{"Concat":"x"}')]
    + ['{"Size":5,"TusdPy":{"Version":1,"Failure":["x"]}}', '{"Size":5,"TusdPy":{"Version":1,"Metadata":5}}', '{"ID":5}']
    + ['{"Size":5,"x":' + "[" * 200_000 + "]" * 200_000 + "}"],
    ids=lambda text: text[:40],
)
def test_damaged_records_are_found_out(text: str) -> None:
    with pytest.raises(RecordDamaged):
        parse_info(text.encode(), "x")


@given(st.binary(max_size=200) | uploads.map(lambda upload: build_info(upload, upload.storage)).flatmap(
    lambda data: st.integers(0, len(data)).map(lambda end: data[:end])
))  # fmt: skip
def test_whatever_is_read_nothing_else_is_raised(data: bytes) -> None:
    with suppress(RecordDamaged):
        assert parse_info(data, "x").id == "x"
