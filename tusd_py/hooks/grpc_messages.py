"""The messages of `hook.proto`, made when this module is imported, and their translation to our own.

No generated code: that is tied to a version of protobuf, and a table is not. A test compares it with what protoc makes of the
file. The pool is our own, as an application may have tusd's file of the same package name loaded.

Needs the extra `grpc`.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.hook_messages import check_answer, utf8_text
from tusd_py.protocol.hooks import FileInfoChanges, HookAnswer, HookEvent
from tusd_py.protocol.upload import Upload

__all__ = ["METHOD", "HookRequest", "HookResponse", "build_request", "parse_response"]

METHOD = "/proto.HookHandler/InvokeHook"

_Kind = descriptor_pb2.FieldDescriptorProto

# message: its fields, by number from 1 on, and their types; a name of another message, or "map" for strings by strings.
_MESSAGES = {
    "HookRequest": (("type", "string"), ("event", "Event")),
    "Event": (("upload", "FileInfo"), ("httpRequest", "HTTPRequest")),
    "FileInfo": (
        *(("id", "string"), ("size", "int64"), ("sizeIsDeferred", "bool"), ("offset", "int64"), ("metaData", "map")),
        *(("isPartial", "bool"), ("isFinal", "bool"), ("partialUploads", "strings"), ("storage", "map")),
    ),
    "HTTPRequest": (("method", "string"), ("uri", "string"), ("remoteAddr", "string"), ("header", "map")),
    "HookResponse": (
        *(("httpResponse", "HTTPResponse"), ("rejectUpload", "bool"), ("stopUpload", "bool")),
        ("changeFileInfo", "FileInfoChanges"),
    ),
    "HTTPResponse": (("statusCode", "int64"), ("header", "map"), ("body", "string")),
    "FileInfoChanges": (("id", "string"), ("metaData", "map"), ("storage", "map")),
}
_SCALARS = {"string": _Kind.TYPE_STRING, "strings": _Kind.TYPE_STRING, "int64": _Kind.TYPE_INT64, "bool": _Kind.TYPE_BOOL}


def file_descriptor() -> Any:
    """What `hook.proto` says, without its service: calls are made by the name of the method."""
    file = descriptor_pb2.FileDescriptorProto(name="hook.proto", package="proto", syntax="proto3")
    for name, entries in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (entry, kind) in enumerate(entries, 1):
            _add_field(message, entry, kind, number)
    return file


def _add_field(message: Any, name: str, kind: str, number: int) -> None:
    repeated = kind in ("map", "strings")
    field = message.field.add(
        name=name, json_name=name, number=number, label=_Kind.LABEL_REPEATED if repeated else _Kind.LABEL_OPTIONAL
    )
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
        return
    field.type = _Kind.TYPE_MESSAGE
    if kind != "map":
        field.type_name = f".proto.{kind}"
        return
    pair = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
    pair.options.map_entry = True
    _add_field(pair, "key", "string", 1)
    _add_field(pair, "value", "string", 2)
    field.type_name = f".proto.{message.name}.{pair.name}"


_pool = descriptor_pool.DescriptorPool()
_pool.Add(file_descriptor())


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"proto.{name}"))


HookRequest = _class("HookRequest")
HookResponse = _class("HookResponse")


def build_request(event: HookEvent) -> Any:
    """The `HookRequest`. Text that is no UTF-8 has U+FFFD in its place: protobuf has no other strings."""
    request = event.request
    return HookRequest(
        type=event.type.value,
        event={
            "upload": _file_info(event.upload),
            "httpRequest": {
                "method": request.method,
                "uri": _text(utf8_text(request.uri)),
                "remoteAddr": request.remote_addr,
                "header": {
                    _text(utf8_text(name)): _text(utf8_text(values[0])) for name, values in request.headers.items() if values
                },
            },
        },
    )


def _file_info(upload: Upload) -> dict[str, Any]:
    return {
        "id": _text(upload.id),
        "size": upload.length or 0,
        "sizeIsDeferred": upload.length is None,
        "offset": upload.offset,
        "metaData": {_text(key): value.decode("utf-8", "replace") for key, value in upload.metadata.pairs.items()},
        "isPartial": upload.is_partial,
        "isFinal": upload.is_final,
        "partialUploads": upload.partials or (),
        "storage": {_text(key): _text(value) for key, value in upload.storage.items()} if upload.id else {},
    }


def _text(value: str) -> str:
    return value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def parse_response(data: bytes) -> HookAnswer:
    """What an encoded `HookResponse` says. Raises ValueError, with a sentence for the service's author."""
    try:
        response = HookResponse.FromString(data)
    except DecodeError as error:
        raise ValueError(f"no HookResponse: {error}") from error
    answer, changes = response.httpResponse, response.changeFileInfo
    return check_answer(
        HookAnswer(
            response=HttpResponse(
                status=answer.statusCode or None,
                body=answer.body or None,
                headers={name: value.encode().decode("latin-1") for name, value in answer.header.items()},
            ),
            reject_upload=response.rejectUpload,
            stop_upload=response.stopUpload,
            changes=FileInfoChanges(
                id=changes.id or None,
                metadata={key: value.encode() for key, value in changes.metaData.items()} or None,
                path=changes.storage.get("Path") or None,
            ),
        )
    )
