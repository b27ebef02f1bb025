"""Hook messages as tusd writes them, answers as Go reads them, and stored events that lose nothing."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.protocol.exchange import NO_REQUEST, HttpRequest, HttpResponse
from tusd_py.protocol.go_json import JsonError
from tusd_py.protocol.hook_messages import (
    build_event,
    build_hook_answer,
    build_hook_message,
    check_answer,
    go_canonical,
    parse_event,
    parse_hook_answer,
)
from tusd_py.protocol.hooks import FileInfoChanges, HookAnswer, HookEvent, HookType
from tusd_py.protocol.metadata import build_metadata, parse_metadata
from tusd_py.protocol.upload import MAX_LENGTH, Upload

STORAGE = {"Type": "filestore", "Path": "/abs/dir/cd8e", "InfoPath": "/abs/dir/cd8e.info"}
STORED = '{"InfoPath":"/abs/dir/cd8e.info","Path":"/abs/dir/cd8e","Type":"filestore"}'
REQUEST = HttpRequest(
    method="PATCH",
    uri="/files/cd8e?a=1&b=2",
    remote_addr="127.0.0.1:53494",
    headers={
        "X-Request-Id": ("abc",),
        "X-Custom": ("1", "2"),
        "Tus-Resumable": ("1.0.0",),
        "Host": ("tus.test:8080",),
    },
    scope={"type": "http"},
)

MESSAGES = [
    (
        HookEvent(
            type=HookType.POST_FINISH,
            upload=Upload(
                id="cd8e", length=11, offset=11, metadata=parse_metadata("filename YQ=="), storage=STORAGE, owner="alice"
            ),
            request=REQUEST,
        ),
        '{"Type":"post-finish","Event":{"Upload":{"ID":"cd8e","Size":11,"SizeIsDeferred":false,"Offset":11,'
        '"MetaData":{"filename":"a"},"IsPartial":false,"IsFinal":false,"PartialUploads":null,"Storage":' + STORED + "},"
        '"HTTPRequest":{"Method":"PATCH","URI":"/files/cd8e?a=1\\u0026b=2","RemoteAddr":"127.0.0.1:53494","Header":'
        '{"Host":["tus.test:8080"],"Tus-Resumable":["1.0.0"],"X-Custom":["1","2"],"X-Request-Id":["abc"]}}}}',
    ),
    (
        HookEvent(type=HookType.PRE_CREATE, upload=Upload(id="", length=None, storage={}), request=HttpRequest(method="POST")),
        '{"Type":"pre-create","Event":{"Upload":{"ID":"","Size":0,"SizeIsDeferred":true,"Offset":0,"MetaData":{},'
        '"IsPartial":false,"IsFinal":false,"PartialUploads":null,"Storage":null},'
        '"HTTPRequest":{"Method":"POST","URI":"","RemoteAddr":"","Header":{}}}}',
    ),
    (
        HookEvent(
            type=HookType.POST_CREATE, upload=Upload(id="f", length=9, partials=("a", "b/c"), storage=STORAGE), id="01J<"
        ),
        '{"Type":"post-create","Event":{"Upload":{"ID":"f","Size":9,"SizeIsDeferred":false,"Offset":0,"MetaData":{},'
        '"IsPartial":false,"IsFinal":true,"PartialUploads":["a","b/c"],"Storage":' + STORED + "},"
        '"HTTPRequest":{"Method":"","URI":"","RemoteAddr":"","Header":{}}},"EventID":"01J\\u003c"}',
    ),
]


@pytest.mark.parametrize(("event", "text"), MESSAGES, ids=lambda value: value.type if isinstance(value, HookEvent) else "")
def test_messages_are_tusds_to_the_letter(event: HookEvent, text: str) -> None:
    assert build_hook_message(event).decode() == text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", '"plain"'),
        ("gr\u00c3\u00bcn", '"grün"'),  # UTF-8, a character a byte
        ("gr\u00fcn", '"gr\\ufffdn"'),  # Latin-1, which is no UTF-8
        ("\u20ac", '"\u20ac"'),  # text already
        ('<"&\t', '"\\u003c\\"\\u0026\\t"'),
    ],
)
def test_header_values_and_targets_are_written_as_go_does(value: str, written: str) -> None:
    request = HttpRequest(method="GET", uri=value, headers={"X": (value,)})
    text = build_hook_message(HookEvent(type=HookType.PRE_FINISH, upload=Upload(id="x", length=1), request=request)).decode()
    assert f'"URI":{written},' in text
    assert f'"Header":{{"X":[{written}]}}' in text


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        (b"x-request-id", "X-Request-Id"),
        (b"X-HTTP-METHOD-override", "X-Http-Method-Override"),
        (b"tus-resumable", "Tus-Resumable"),
        (b"host", "Host"),
        (b"-a--b-", "-A--B-"),
        (b"x_y.z", "X_y.z"),
        (b"1a-2b", "1a-2b"),
        (b"no token", "no token"),
        (b"n\xfcx", "n\xfcx"),
        (b"", ""),
    ],
)
def test_header_names_are_those_of_go(name: bytes, canonical: str) -> None:
    assert go_canonical(name) == canonical


ANSWERS: list[tuple[HookAnswer, str]] = [
    (HookAnswer(), "{}"),
    (HookAnswer(reject_upload=True), '{"RejectUpload":true}'),
    (HookAnswer(reject_termination=True, stop_upload=True), '{"RejectTermination":true,"StopUpload":true}'),
    (
        HookAnswer(response=HttpResponse(status=400, body="no <b>", headers={"X-Why": "because", "A": "\u00c3\u00bc"})),
        '{"HTTPResponse":{"StatusCode":400,"Body":"no \\u003cb\\u003e","Header":{"A":"ü","X-Why":"because"}}}',
    ),
    (HookAnswer(response=HttpResponse(headers={"X": "y"})), '{"HTTPResponse":{"Header":{"X":"y"}}}'),
    (
        HookAnswer(changes=FileInfoChanges(id="proj/x-1", metadata={"k": b"v"}, path="sub/dir/file.bin")),
        '{"ChangeFileInfo":{"ID":"proj/x-1","MetaData":{"k":"v"},"Storage":{"Path":"sub/dir/file.bin"}}}',
    ),
    (HookAnswer(changes=FileInfoChanges(metadata={})), '{"ChangeFileInfo":{"MetaData":{}}}'),
]


@pytest.mark.parametrize(("answer", "text"), ANSWERS)
def test_answers_are_read_and_written(answer: HookAnswer, text: str) -> None:
    assert parse_hook_answer(text.encode()) == answer
    assert build_hook_answer(answer).decode() == text


TOLERATED: list[tuple[str, HookAnswer]] = [
    ("null", HookAnswer()),
    (" {} \n", HookAnswer()),
    ('{"httpRESPONSE":{"statuscode":418,"BODY":"tea"}}', HookAnswer(response=HttpResponse(status=418, body="tea"))),
    ('{"rejectupload":true}', HookAnswer(reject_upload=True)),
    ('{"Unknown":[1.5,{}],"RejectUpload":true}', HookAnswer(reject_upload=True)),
    (
        '{"HTTPResponse":null,"RejectUpload":null,"RejectTermination":null,"StopUpload":null,"ChangeFileInfo":null}',
        HookAnswer(),
    ),
    ('{"HTTPResponse":{"StatusCode":0,"Body":"","Header":{}}}', HookAnswer()),
    ('{"HTTPResponse":{"StatusCode":null,"Body":null,"Header":null}}', HookAnswer()),
    ('{"ChangeFileInfo":{"ID":"","Storage":{"Path":""}}}', HookAnswer()),
    ('{"ChangeFileInfo":{"ID":null,"MetaData":null,"Storage":null}}', HookAnswer()),
    ('{"ChangeFileInfo":{"Storage":{"Type":"x","Path":"p"}}}', HookAnswer(changes=FileInfoChanges(path="p"))),
    ('{"ChangeFileInfo":{"MetaData":{"k":null}}}', HookAnswer(changes=FileInfoChanges(metadata={"k": b""}))),
    ('{"ChangeFileInfo":{"MetaData":{"k":"\\ud800"}}}', HookAnswer(changes=FileInfoChanges(metadata={"k": b"\xef\xbf\xbd"}))),
    ('{"HTTPResponse":{"Header":{"X":"a\\r\\nY: b "}}}', HookAnswer(response=HttpResponse(headers={"X": "a  Y: b"}))),
    ('{"HTTPResponse":{"Header":{"Content-Length":"5","x-y":"z"}}}', HookAnswer(response=HttpResponse(headers={"x-y": "z"}))),
    ('{"RejectUpload":false,"RejectUpload":true}', HookAnswer(reject_upload=True)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "answer"), TOLERATED)
def test_what_go_tolerates_is_tolerated(text: str, answer: HookAnswer) -> None:
    assert parse_hook_answer(text.encode()) == answer


REFUSED = [
    ("", "no JSON"),
    ("hello", "no JSON"),
    ("{} {}", "no JSON"),
    ('{"RejectUpload":true', "no JSON"),
    ("\ufeff{}", "no JSON"),
    ("[]", "no JSON object"),
    ('"x"', "no JSON object"),
    ("[" * 100_000, "no JSON"),
    ('{"RejectUpload":"true"}', "RejectUpload is not true or false"),
    ('{"RejectTermination":1}', "RejectTermination is not true or false"),
    ('{"StopUpload":0}', "StopUpload is not true or false"),
    ('{"HTTPResponse":[]}', "HTTPResponse is not an object"),
    ('{"HTTPResponse":{"StatusCode":"400"}}', "StatusCode is not a whole number"),
    ('{"HTTPResponse":{"StatusCode":400.0}}', "StatusCode is not a whole number"),
    ('{"HTTPResponse":{"StatusCode":true}}', "StatusCode is not a whole number"),
    ('{"HTTPResponse":{"StatusCode":99}}', "StatusCode is 99"),
    ('{"HTTPResponse":{"StatusCode":1000}}', "StatusCode is 1000"),
    ('{"HTTPResponse":{"StatusCode":-1}}', "StatusCode is -1"),
    ('{"HTTPResponse":{"Body":{}}}', "Body is not a string"),
    ('{"HTTPResponse":{"Header":{"X":["y"]}}}', "Header holds something else than strings"),
    ('{"HTTPResponse":{"Header":{"X Y":"y"}}}', "Header has the name 'X Y'"),
    ('{"HTTPResponse":{"Header":{"X":"a\\u0000"}}}', "the header X has control characters"),
    ('{"ChangeFileInfo":{"ID":5}}', "ID is not a string"),
    ('{"ChangeFileInfo":{"MetaData":{"k":5}}}', "MetaData holds something else than strings"),
    ('{"ChangeFileInfo":{"MetaData":{"a\\nb":"x"}}}', "MetaData has the key"),
    ('{"ChangeFileInfo":{"MetaData":{"":"x"}}}', "MetaData has the key"),
    ('{"ChangeFileInfo":{"Storage":{"Path":1}}}', "Storage holds something else than strings"),
    ('{"ChangeFileInfo":{"Storage":{"Path":"a\\u0000"}}}', "Storage.Path"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=lambda text: text[:50])
def test_answers_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(JsonError, match=message.replace(".", r"\.")):
        parse_hook_answer(text.encode())


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.dictionaries(
        st.sampled_from(["HTTPResponse", "Header", "Body", "StatusCode", "ChangeFileInfo", "MetaData", "Path", "ID"]),
        inner, max_size=4,
    ) | st.lists(inner, max_size=2),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_a_hook_answers_nothing_else_is_raised(data: bytes) -> None:
    with suppress(JsonError):
        answer = parse_hook_answer(data)
        assert check_answer(answer) == answer
        assert parse_hook_answer(build_hook_answer(answer)) == answer


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
latin = st.text(st.characters(max_codepoint=255), max_size=10)
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1, max_size=6)
events = st.builds(
    HookEvent,
    type=st.sampled_from(HookType),
    id=texts,
    upload=st.builds(
        Upload,
        id=texts,
        length=st.none() | st.integers(0, MAX_LENGTH),
        offset=st.integers(0, MAX_LENGTH),
        metadata=st.dictionaries(keys, st.binary(max_size=9), max_size=3).map(
            lambda pairs: parse_metadata(build_metadata(pairs))
        ),
        is_partial=st.booleans(),
        partials=st.none() | st.lists(texts, max_size=3).map(tuple),
        concat=st.none() | texts,
        failure=st.none() | texts,
        active_at=st.floats(0, 1e12),
        storage=st.dictionaries(texts, texts, max_size=3),
        owner=st.none() | texts,
        max_size=st.none() | st.integers(0, MAX_LENGTH),
        held=st.booleans(),
    ),
    request=st.just(NO_REQUEST)
    | st.builds(
        HttpRequest,
        method=st.sampled_from(["POST", "PATCH", "DELETE"]),
        uri=latin,
        remote_addr=texts,
        headers=st.dictionaries(latin, st.lists(latin, min_size=1, max_size=3).map(tuple), max_size=4),
    ),
)


@given(events)
def test_any_event_survives_being_stored(event: HookEvent) -> None:
    assert parse_event(build_event(event)) == event


def test_only_the_scope_of_a_stored_request_is_lost() -> None:
    stored = parse_event(build_event(MESSAGES[0][0]))
    assert stored == MESSAGES[0][0]
    assert stored.upload.owner == "alice"
    assert stored.request.scope == {}


def test_an_event_without_request_stays_without() -> None:
    assert parse_event(build_event(MESSAGES[2][0])).request is NO_REQUEST


@given(events)
def test_any_message_is_json_on_one_line_in_tusds_order(event: HookEvent) -> None:
    data = build_hook_message(event)
    message: dict[str, Any] = json.loads(data)
    assert b"\n" not in data
    assert list(message) == ["Type", "Event", *(["EventID"] if event.id else [])]
    assert list(message["Event"]) == ["Upload", "HTTPRequest"]
    assert list(message["Event"]["HTTPRequest"]) == ["Method", "URI", "RemoteAddr", "Header"]
    assert (message["Event"]["Upload"]["Storage"] is None) == (not event.upload.id)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ("[]", "no JSON object"),
        ('{"Version":2}', "version"),
        ('{"Type":"post-finish"}', "version"),
        ('{"Version":1,"Type":"post-party","Upload":{}}', "post-party"),
        ('{"Version":1,"Type":"post-finish"}', "no JSON object"),
        ('{"Version":1,"Type":"post-finish","Upload":{"Size":"5"}}', "Size"),
        ('{"Version":1,"Type":"post-finish","Upload":{},"Request":{"Header":{"X":"y"}}}', "X is not an array"),
    ],
)
def test_damaged_events_are_found_out(text: str, message: str) -> None:
    with pytest.raises(JsonError, match=message):
        parse_event(text.encode())
