"""Which files may be uploaded: a table for what is declared, one for what the bytes look like, one for what can be set."""

from __future__ import annotations

import pytest

from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.refusals import TypeNotAllowed
from tusd_py.protocol.types import TypeRules, check_bytes, check_declared, parse_extensions, parse_types


def metadata(**pairs: str) -> Metadata:
    return Metadata({key: value.encode() for key, value in pairs.items()})


def allowed_name(name: str | None, extensions: str) -> bool:
    pairs = metadata() if name is None else metadata(filename=name)
    try:
        check_declared(pairs, TypeRules(extensions=parse_extensions(extensions)))
    except TypeNotAllowed:
        return False
    return True


NAMES = [
    # name, allowed extensions, whether it may be
    ("photo.jpg", "jpg", True),
    ("photo.JPG", ".jpg", True),
    ("photo.jpg", "JPG", True),
    ("photo.jpg", "*.jpg, png", True),
    ("photo.gif", "jpg,png", False),
    ("photo.jpg.exe", "jpg", False),
    ("photo.exe.jpg", "jpg", True),
    ("backup.tar.gz", "gz", True),
    ("backup.tar.gz", "tar.gz", True),
    ("backup.gz", "tar.gz", False),
    ("photojpg", "jpg", False),
    ("photo", "jpg", False),
    (".jpg", "jpg", False),
    ("x/.jpg", "jpg", False),
    ("C:\\pictures\\photo.jpg", "jpg", True),
    ("photo.jpg/evil.exe", "jpg", False),
    ("photo.exe.", "exe", True),
    ("photo.jpg. .", "jpg", True),
    ("photo.exe.jpg ", "exe", False),
    ("photo.exe\0.jpg", "jpg", False),
    ("photo.exe\n.jpg", "jpg", False),
    ("Screenshot at 3.00\u202fPM.png", "png", True),
    ("cod\u202egpj.exe", "jpg", False),
    ("größe.jpg", "jpg", True),
    ("", "jpg", False),
    (None, "jpg", False),
    (None, "", True),
]


@pytest.mark.parametrize(("name", "extensions", "expected"), NAMES)
def test_names(name: str | None, extensions: str, expected: bool) -> None:
    assert allowed_name(name, extensions) is expected


def test_the_filename_counts_where_there_is_also_a_name() -> None:
    rules = TypeRules(extensions=("jpg",))
    check_declared(metadata(name="J. R. Smith", filename="a.jpg"), rules)
    check_declared(metadata(name="a.jpg"), rules)
    with pytest.raises(TypeNotAllowed):
        check_declared(metadata(name="a.jpg", filename="a.exe"), rules)


IMAGES = "image/*, application/pdf"

DECLARED = [
    # metadata, allowed types, whether it may be created
    ({"filetype": "image/png"}, IMAGES, True),
    ({"type": "application/pdf"}, IMAGES, True),
    ({"contentType": "image/png"}, IMAGES, True),
    ({"Content-Type": "IMAGE/PNG"}, IMAGES, True),
    ({"filetype": "image/jpg"}, "image/jpeg", True),
    ({"filetype": "image/jpeg"}, "image/jpg", True),
    ({"filetype": "text/html; charset=utf-8"}, "text/html", True),
    ({"filetype": "text/html"}, IMAGES, False),
    ({"filetype": "imagex/png"}, IMAGES, False),
    ({"filetype": "image/png", "type": "text/html"}, IMAGES, False),
    ({"filetype": "image/png", "type": "image/png", "name": "a.png", "filename": "a.png"}, IMAGES, True),  # Uppy
    ({"filetype": "image/png", "type": "avatar"}, IMAGES, True),
    ({}, IMAGES, True),
    ({"filetype": ""}, IMAGES, True),
    ({"filetype": "null"}, IMAGES, True),
    ({"filetype": "undefined"}, IMAGES, True),
    ({"filetype": "application/octet-stream"}, IMAGES, True),
    ({"filetype": "text/html"}, "*/*", True),
    ({"filetype": "text/html"}, "", True),
]


@pytest.mark.parametrize(("pairs", "types", "expected"), DECLARED)
def test_declared_types(pairs: dict[str, str], types: str, expected: bool) -> None:
    rules = TypeRules(types=parse_types(types))
    if expected:
        check_declared(metadata(**pairs), rules)
    else:
        with pytest.raises(TypeNotAllowed, match=r"is not allowed; allowed types are image/\*, application/pdf"):
            check_declared(metadata(**pairs), rules)


DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

BYTES = [
    # what they look like, what is declared, allowed types, whether they may be
    ("image/png", None, "image/*", True),
    ("image/png", "image/jpeg", "image/*", True),
    ("image/png", "image/jpeg", "image/jpeg", False),
    ("text/html", None, "image/*", False),
    ("text/html", "image/png", "image/*", False),
    ("image/svg+xml", "image/png", "image/png", False),
    ("image/x-ms-bmp", "image/bmp", "image/bmp", True),
    ("audio/x-wav", None, "audio/wav", True),
    # only more general than what is declared
    ("text/plain", "text/csv", "text/csv", True),
    ("text/plain", None, "text/csv", False),
    ("text/plain", "application/json", "application/json", True),
    ("text/plain", "text/javascript", "text/javascript", True),
    ("text/plain", "image/png", "image/png", False),
    ("text/html", "text/csv", "text/csv", False),
    ("text/xml", "image/svg+xml", "image/svg+xml", True),
    ("application/xml", "application/rss+xml", "application/rss+xml", True),
    ("text/html", "image/svg+xml", "image/svg+xml", False),
    ("application/json", "application/geo+json", "application/geo+json", True),
    ("application/zip", DOCX, DOCX, True),
    ("application/zip", None, DOCX, False),
    ("application/zip", "application/epub+zip", "application/epub+zip", True),
    ("application/zip", "application/java-archive", "application/java-archive", True),
    ("application/zip", "image/png", "image/png", False),
    ("application/x-ole-storage", "application/msword", "application/msword", True),
    ("application/x-ole-storage", "application/pdf", "application/pdf", False),
    ("application/gzip", "application/x-tgz", "application/x-tgz", True),
    ("video/mp4", "video/quicktime", "video/quicktime", True),
    ("audio/mp4", "audio/x-m4a", "audio/x-m4a", True),
    ("video/x-matroska", "video/webm", "video/webm", True),
    ("application/ogg", "audio/ogg", "audio/*", True),
    # unknown
    (None, None, "image/*", False),
    ("application/octet-stream", None, "image/*", False),
    (None, "model/stl", "model/stl", True),
    (None, "image/png", "image/png", False),
    (None, "application/pdf", "application/pdf", False),
    (None, None, "application/octet-stream", True),
    (None, None, "*/*", True),
    # more special than plain text, which is a guess; but what a browser may run is no plain text
    ("text/csv", "text/plain", "text/plain", True),
    ("text/x-c++", None, "text/plain", True),
    ("message/rfc822", "text/plain", "text/plain", True),
    ("application/json", "text/plain", "text/plain", True),
    ("text/html", "text/plain", "text/plain", False),
    ("image/svg+xml", "text/plain", "text/plain", False),
    ("text/xml", "text/plain", "text/plain", False),
    ("application/vnd.microsoft.portable-executable", "text/plain", "text/plain", False),
    # nothing to look at, nothing to ask
    ("application/x-empty", None, "image/*", True),
    ("inode/x-empty", "image/png", "image/png", True),
    ("text/html", None, "", True),
]


@pytest.mark.parametrize(("sniffed", "declared", "types", "expected"), BYTES)
def test_bytes(sniffed: str | None, declared: str | None, types: str, expected: bool) -> None:
    pairs = metadata() if declared is None else metadata(filetype=declared)
    rules = TypeRules(types=parse_types(types))
    check_declared(pairs, rules)
    if expected:
        check_bytes(sniffed, pairs, rules)
    else:
        with pytest.raises(TypeNotAllowed, match="allowed types are "):
            check_bytes(sniffed, pairs, rules)


@pytest.mark.parametrize("text", ["image", "image/", "/png", "image/png;q=1", "image/p*", "*/png", "image png", "im age/png"])
def test_what_is_no_type(text: str) -> None:
    with pytest.raises(ValueError, match="is no media type: expected types such as"):
        parse_types(text)


@pytest.mark.parametrize("text", ["a b", "..jpg", "jpg.", "a/b", ".", "*", "a?"])
def test_what_is_no_extension(text: str) -> None:
    with pytest.raises(ValueError, match="is no file extension: expected extensions such as"):
        parse_extensions(text)


def test_lists_may_be_written_in_several_ways() -> None:
    assert parse_types(" image/* ,, Application/PDF,image/*,") == ("image/*", "application/pdf")
    assert parse_extensions("*.JPG, .jpg,tar.gz,") == ("jpg", "tar.gz")
    assert parse_types("") == parse_extensions(" ") == ()


def test_a_refusal_of_a_name_says_what_is_allowed() -> None:
    with pytest.raises(TypeNotAllowed, match=r"is not allowed; allowed extensions are \.jpg, \.tar\.gz, of the filename"):
        check_declared(metadata(filename="a.exe"), TypeRules(extensions=("jpg", "tar.gz")))
