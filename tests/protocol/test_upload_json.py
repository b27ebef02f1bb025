"""What the record says beyond tusd's: absent where there is nothing to say, and read back as it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.protocol.go_json import JsonError
from tusd_py.protocol.upload import MAX_LENGTH, Upload
from tusd_py.protocol.upload_json import build_upload, parse_upload

TUSD = (
    '{"ID":"cd8e","Size":5,"SizeIsDeferred":false,"Offset":0,"MetaData":{},"IsPartial":false,"IsFinal":false,'
    '"PartialUploads":null,"Storage":{}'
)

CASES: list[tuple[dict[str, Any], str]] = [
    ({}, "}"),
    ({"owner": "alice"}, ',"TusdPy":{"Version":1,"Owner":"alice"}}'),
    ({"owner": ""}, ',"TusdPy":{"Version":1,"Owner":""}}'),
    ({"owner": "<ü>"}, ',"TusdPy":{"Version":1,"Owner":"\\u003cü\\u003e"}}'),
    ({"max_size": 0}, ',"TusdPy":{"Version":1,"MaxSize":0}}'),
    ({"max_size": MAX_LENGTH}, ',"TusdPy":{"Version":1,"MaxSize":9223372036854775807}}'),
    ({"held": True}, ',"TusdPy":{"Version":1,"Held":true}}'),
    (
        {"concat": "partial", "failure": "why", "owner": "o", "max_size": 7, "held": True},
        ',"TusdPy":{"Version":1,"Concat":"partial","Failure":"why","Owner":"o","MaxSize":7,"Held":true}}',
    ),
]


@pytest.mark.parametrize(("facts", "end"), CASES)
def test_facts_are_written_where_there_are_any(facts: dict[str, Any], end: str) -> None:
    assert build_upload(Upload(id="cd8e", length=5, **facts), {}).decode() == TUSD + end


@pytest.mark.parametrize(("facts", "end"), CASES)
def test_facts_are_read_as_they_were_written(facts: dict[str, Any], end: str) -> None:
    assert parse_upload((TUSD + end).encode()) == Upload(id="cd8e", length=5, **facts)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    st.builds(
        Upload,
        id=texts,
        length=st.none() | st.integers(0, MAX_LENGTH),
        owner=st.none() | texts,
        max_size=st.none() | st.integers(0, MAX_LENGTH),
        held=st.booleans(),
    )
)
def test_any_facts_survive_the_round_trip(upload: Upload) -> None:
    data = build_upload(upload, {})
    assert parse_upload(data) == upload
    assert ("TusdPy" in json.loads(data)) == (upload.owner is not None or upload.max_size is not None or upload.held)


def test_the_id_is_the_one_asked_for() -> None:
    assert parse_upload((TUSD + "}").encode(), "other").id == "other"


@pytest.mark.parametrize(
    "extra", ['"Owner":1', '"Owner":{}', '"MaxSize":"7"', '"MaxSize":-1', '"MaxSize":1.5', '"Held":1', '"Held":"true"']
)
def test_facts_of_the_wrong_type_are_found_out(extra: str) -> None:
    with pytest.raises(JsonError):
        parse_upload(f'{TUSD},"TusdPy":{{"Version":1,{extra}}}}}'.encode())


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_only_python_takes_for_json_is_none(constant: str) -> None:
    with pytest.raises(JsonError, match="no JSON"):
        parse_upload(f'{{"Size":5,"x":{constant}}}'.encode())
