"""What goes between us and hooks, as bytes: tusd's request and answer, and events as the outbox keeps them.

`build_hook_message` writes tusd's request to the letter, with one more key for events that have an id. `parse_hook_answer` and
`build_hook_answer` are inverse, and so are `build_event` and `parse_event`, which lose nothing but the request's scope.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tusd_py.protocol.exchange import NO_REQUEST, HttpRequest, HttpResponse
from tusd_py.protocol.go_json import (
    JsonError,
    encode,
    field,
    fields,
    load,
    quote,
    quoted_list,
    quoted_map,
    text_map,
    texts,
    well_formed,
)
from tusd_py.protocol.hooks import FileInfoChanges, HookAnswer, HookEvent, HookType
from tusd_py.protocol.upload_json import extended_upload_text, read_upload, upload_text

__all__ = [
    "build_event",
    "build_hook_answer",
    "build_hook_message",
    "check_answer",
    "go_canonical",
    "parse_event",
    "parse_hook_answer",
    "utf8_text",
    "wire_text",
]

EVENT_VERSION = 1
"""Of stored events. One with a later version is not understood, and left for the program that wrote it."""

_ANSWER_KEYS = frozenset(("HTTPResponse", "RejectUpload", "RejectTermination", "StopUpload", "ChangeFileInfo"))
_RESPONSE_KEYS = frozenset(("StatusCode", "Body", "Header"))
_CHANGE_KEYS = frozenset(("ID", "MetaData", "Storage"))
_EVENT_KEYS = frozenset(("Version", "Type", "ID", "Upload", "ActiveAt", "Request"))
_REQUEST_KEYS = frozenset(("Method", "URI", "RemoteAddr", "Header"))

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# The body that is sent decides about these; a hook that names them would only break the answer.
_FRAMING = frozenset(("connection", "content-length", "keep-alive", "trailer", "transfer-encoding", "upgrade"))


# The request


@lru_cache(maxsize=1024)  # clients choose names: most are the same dozen, and none of the others may stay
def go_canonical(name: bytes) -> str:
    """A header name as Go's `http.CanonicalHeaderKey` writes it: `X-Request-Id`. What is no token stays as it is."""
    text = name.decode("latin-1")
    if _TOKEN.fullmatch(text) is None:
        return text
    return "-".join([part.capitalize() for part in text.split("-")])


def build_hook_message(event: HookEvent) -> bytes:
    """The request to a hook, in tusd's JSON. Before a creation there is no `Storage`.

    Events, which may be delivered again, have an `EventID` behind `Event`, which Go and other tolerant readers ignore.
    """
    upload = event.upload
    event_id = f',"EventID":{quote(event.id)}' if event.id else ""
    return encode(
        f'{{"Type":{quote(event.type)},"Event":{{'
        f'"Upload":{upload_text(upload, upload.storage if upload.id else None)}'
        f',"HTTPRequest":{_request_text(event.request, utf8=True)}}}{event_id}}}'
    )


def _request_text(request: HttpRequest, *, utf8: bool) -> str:
    text = utf8_text if utf8 else str
    values = [
        f"{quote(text(name))}:{quoted_list([text(value) for value in request.headers[name]])}"
        for name in sorted(request.headers)
    ]
    return (
        f'{{"Method":{quote(request.method)},"URI":{quote(text(request.uri))},"RemoteAddr":{quote(request.remote_addr)}'
        f',"Header":{{{",".join(values)}}}}}'
    )


def utf8_text(value: str) -> str:
    """Text with a character for each byte, as header fields are read, as the UTF-8 that Go takes it for.

    Bytes that are no UTF-8 become lone surrogates, which `go_json.encode` writes as Go writes such bytes.
    """
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value  # text already


# The answer


def parse_hook_answer(data: bytes) -> HookAnswer:
    """What a hook has answered, as tolerantly as Go reads it. Raises `JsonError`, with a sentence for the hook's author.

    Absent, null, "" and 0 are nothing said; `MetaData` is nothing said only where it is absent or null, and `{}` erases.
    """
    value = load(data)
    if value is None or value == {}:
        return HookAnswer()
    answer = fields(value, _ANSWER_KEYS)
    response = fields(field(answer, "HTTPResponse", dict, {}), _RESPONSE_KEYS)
    changes = fields(field(answer, "ChangeFileInfo", dict, {}), _CHANGE_KEYS)
    return check_answer(
        HookAnswer(
            response=HttpResponse(
                status=field(response, "StatusCode", int, 0) or None,
                body=field(response, "Body", str, "") or None,
                headers={name: wire_text(value) for name, value in (_map(response, "Header") or {}).items()},
            ),
            reject_upload=field(answer, "RejectUpload", bool, False),
            reject_termination=field(answer, "RejectTermination", bool, False),
            stop_upload=field(answer, "StopUpload", bool, False),
            changes=FileInfoChanges(
                id=field(changes, "ID", str, "") or None,
                metadata=_encoded(_map(changes, "MetaData")),
                path=(_map(changes, "Storage") or {}).get("Path") or None,
            ),
        )
    )


def _map(among: Mapping[str, Any], key: str) -> dict[str, str] | None:
    """An object of strings; a value that is null is an empty string, as in Go."""
    items: dict[str, Any] | None = field(among, key, dict, None)
    if items is None:
        return None
    return text_map({key: {name: "" if item is None else item for name, item in items.items()}}, key)


def _encoded(metadata: Mapping[str, str] | None) -> dict[str, bytes] | None:
    return None if metadata is None else {key: value.encode() for key, value in metadata.items()}


def wire_text(value: str) -> str:
    """A header value with a character for each of its bytes in UTF-8, which is what Go sends."""
    return value if value.isascii() else well_formed(value).encode().decode("latin-1")


def check_answer(answer: HookAnswer) -> HookAnswer:
    """An answer that can be acted on, whoever made it. Raises `JsonError`.

    Line ends in header values become blanks, as in Go. Headers that say how the answer is framed are left out.
    """
    response, changes = answer.response, answer.changes
    if response.status is not None and not 200 <= response.status <= 999:
        raise JsonError(f"StatusCode is {response.status}: expected a status from 200 to 999")
    for key in changes.metadata or ():
        if not key or _CONTROL.search(key):
            raise JsonError(f"MetaData has the key {key!r}: expected at least one character, and no control characters")
    if changes.path and "\0" in changes.path:
        raise JsonError(f"Storage.Path is {changes.path!r}: expected a path, which has no NUL")
    if not response.headers:
        return answer
    headers = dict(_checked_headers(response.headers))
    return HookAnswer(
        response=HttpResponse(status=response.status, body=response.body, headers=headers),
        reject_upload=answer.reject_upload,
        reject_termination=answer.reject_termination,
        stop_upload=answer.stop_upload,
        changes=changes,
    )


def _checked_headers(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    found = []
    for name, value in headers.items():
        if _TOKEN.fullmatch(name) is None:
            raise JsonError(f"Header has the name {name!r}: expected letters, digits and hyphens")
        text = value.replace("\r", " ").replace("\n", " ").strip(" \t")
        if _CONTROL.search(text.replace("\t", "")):
            raise JsonError(f"the header {name} has control characters in {value!r}")
        if name.lower() not in _FRAMING:
            found.append((name, text))
    return found


def build_hook_answer(answer: HookAnswer) -> bytes:
    """The inverse of `parse_hook_answer`; what is not said is left out."""
    response, changes = answer.response, answer.changes
    parts = {
        "HTTPResponse": _object(
            StatusCode=None if response.status is None else str(response.status),
            Body=None if response.body is None else quote(response.body),
            Header=_header_text(response.headers),
        ),
        "RejectUpload": "true" if answer.reject_upload else None,
        "RejectTermination": "true" if answer.reject_termination else None,
        "StopUpload": "true" if answer.stop_upload else None,
        "ChangeFileInfo": _object(
            ID=None if changes.id is None else quote(changes.id),
            MetaData=None if changes.metadata is None else quoted_map(_decoded(changes.metadata)),
            Storage=None if changes.path is None else quoted_map({"Path": changes.path}),
        ),
    }
    return encode(_object(**parts) or "{}")


def _header_text(headers: Mapping[str, str]) -> str | None:
    return quoted_map({name: utf8_text(value) for name, value in headers.items()}) if headers else None


def _object(**parts: str | None) -> str | None:
    said = [f"{quote(key)}:{text}" for key, text in parts.items() if text is not None]
    return "{" + ",".join(said) + "}" if said else None


def _decoded(metadata: Mapping[str, bytes]) -> dict[str, str]:
    return {key: value.decode("utf-8", "surrogateescape") for key, value in metadata.items()}


# Events that are kept


def build_event(event: HookEvent) -> bytes:
    """An event with everything that is known of it, but for the request's scope, which is of this process and moment."""
    upload = event.upload
    return encode(
        f'{{"Version":{EVENT_VERSION},"Type":{quote(event.type)},"ID":{quote(event.id)}'
        f',"Upload":{extended_upload_text(upload, upload.storage)},"ActiveAt":{float(upload.active_at)!r}'
        f',"Request":{"null" if event.request is NO_REQUEST else _request_text(event.request, utf8=False)}}}'
    )


def parse_event(data: bytes) -> HookEvent:
    """The inverse of `build_event`. Raises `JsonError`."""
    stored = fields(load(data), _EVENT_KEYS)
    if not 1 <= field(stored, "Version", int, 0) <= EVENT_VERSION:
        raise JsonError("the event is of a version that this program does not know")
    kind: str = field(stored, "Type", str, "")
    if kind not in _TYPES:
        raise JsonError(f"Type is {kind!r}: expected one of {', '.join(_TYPES)}")
    return HookEvent(
        type=_TYPES[kind],
        upload=read_upload(stored.get("Upload")).evolve(active_at=float(field(stored, "ActiveAt", float, 0.0))),
        request=_request(field(stored, "Request", dict, None)),
        id=field(stored, "ID", str, ""),
    )


_TYPES = {kind.value: kind for kind in HookType}


def _request(value: dict[str, Any] | None) -> HttpRequest:
    if value is None:
        return NO_REQUEST
    request = fields(value, _REQUEST_KEYS)
    headers: dict[str, Any] = field(request, "Header", dict, {})
    return HttpRequest(
        method=field(request, "Method", str, ""),
        uri=field(request, "URI", str, ""),
        remote_addr=field(request, "RemoteAddr", str, ""),
        headers={name: texts(headers, name) for name in headers},
    )
