"""What files are by their first bytes: libmagic, `filetype`, and the rule for text."""

from __future__ import annotations

import gzip
import io
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.limits.sniffers import FiletypeSniffer, MagicSniffer, NoSniffer, find_sniffer, text_type
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.refusals import TypeNotAllowed
from tusd_py.protocol.types import TypeRules, check_bytes
from tusd_py.uploads.sniffing import SNIFF_BYTES


def zipped(*names: str, first: bytes = b"<x/>") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, first)
    return buffer.getvalue()


OOXML = "application/vnd.openxmlformats-officedocument."
ODT = "application/vnd.oasis.opendocument.text"

FILES = {
    "image/png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(50),
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01" + bytes(50),
    "image/gif": b"GIF89a" + bytes(20),
    "image/webp": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(40),
    "image/bmp": b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0\0\0\2\0\0\0\1\0\x18\0" + bytes(40),
    "image/heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(20),
    "application/pdf": b"%PDF-1.7\n%\xe2\xe3",
    "application/zip": zipped("a.txt"),
    f"{OOXML}wordprocessingml.document": zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml"),
    f"{OOXML}spreadsheetml.sheet": zipped("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"),
    ODT: zipped("mimetype", "content.xml", first=ODT.encode()),
    "application/epub+zip": zipped("mimetype", "content.opf", first=b"application/epub+zip"),
    "application/gzip": gzip.compress(b"text"),
    "application/x-7z-compressed": b"7z\xbc\xaf\x27\x1c\0\4" + bytes(30),
    "video/mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(20),
    "video/webm": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\1\x42\xf7\x81\1\x42\xf2\x81\4\x42\xf3\x81\x08\x42\x82\x84webm",
    "video/x-matroska": b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\1\x42\xf7\x81\1\x42\xf2\x81\4\x42\xf3\x81\x08\x42\x82\x88matroska",
    "audio/wav": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0" + bytes(30),
    "audio/mp4": b"\0\0\0\x20ftypM4A \0\0\2\0" + bytes(20),
    "audio/flac": b"fLaC\0\0\0\x22" + bytes(40),
    "text/html": b"<!DOCTYPE html><html></html>",
    "image/svg+xml": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "application/xml": b'<?xml version="1.0"?><a/>',
    "text/plain": b"hello, world\n",
}

EXECUTABLES = {
    "elf": Path(sys.executable).resolve().read_bytes()[:SNIFF_BYTES],
    "pe": b"MZ" + bytes(58) + b"\x80\0\0\0" + bytes(64) + b"PE\0\0d\x86" + bytes(100),
    "html": b"  \n<!-- no --><script>alert(1)</script>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
}

Sniffer = MagicSniffer | FiletypeSniffer

both = pytest.mark.parametrize("sniffer", [MagicSniffer(), FiletypeSniffer()], ids=repr)


@both
@pytest.mark.parametrize("mime", FILES)
def test_a_file_may_be_what_it_is(sniffer: Sniffer, mime: str) -> None:
    check_bytes(sniffer.sniff(FILES[mime]), Metadata(), TypeRules(types=(mime,)))


@both
@pytest.mark.parametrize("kind", EXECUTABLES)
@pytest.mark.parametrize("declared", ["image/png", "application/pdf", "text/csv", "video/mp4"])
def test_a_file_may_not_be_what_it_only_says_it_is(sniffer: Sniffer, kind: str, declared: str) -> None:
    with pytest.raises(TypeNotAllowed):
        check_bytes(sniffer.sniff(EXECUTABLES[kind]), Metadata({"filetype": declared.encode()}), TypeRules(types=(declared,)))


TEXTS = {
    b"hello": "text/plain",
    b"": "text/plain",
    "größe".encode(): "text/plain",
    "größe".encode()[:3]: "text/plain",  # its last character is cut
    "größe".encode("latin-1"): "text/plain",
    b"\xef\xbb\xbfhello": "text/plain",
    b"\xff\xfeh\0i\0": "text/plain",
    b"\xfe\xff\0h\0i": "text/plain",
    b"a\0b": None,
    b"\x01\x02\x03": None,
    b"\x1b[31mred\x1b[0m\r\n\t\x0c": "text/plain",
    b"<html>": "text/html",
    b"\xef\xbb\xbf \n\t<HTML lang=en>": "text/html",
    b"\xff\xfe<\0b\0>\0": "text/html",
    b"<!doctype html>": "text/html",
    b"<!DOCTYPE   HTML PUBLIC '-//W3C//DTD HTML 4.01//EN'>": "text/html",
    b"<script>": "text/html",
    b"<a href=x>": "text/html",
    b"<abbr>": "text/plain",
    b"<!-- a comment -->": "text/html",
    b"<!-- one that does not end": "text/html",
    b"a < b": "text/plain",
    b"<3 you": "text/plain",
    b"<?php echo 1;": "text/plain",
    b"<?xml version='1.0'?><rss/>": "application/xml",
    b"<?xml version='1.0'?><!-- x --><svg/>": "image/svg+xml",
    b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>": "application/xhtml+xml",
    b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'x'><svg>": "image/svg+xml",
    b"<!DOCTYPE svg [<!ENTITY a 'b'>]>\n<svg:svg>": "image/svg+xml",
    b"<!-- drawn by x --><svg>": "image/svg+xml",
}


@pytest.mark.parametrize(("head", "expected"), TEXTS.items())
def test_text(head: bytes, expected: str | None) -> None:
    assert text_type(head) == expected


@given(st.binary(max_size=200) | st.text(alphabet="<!-[]doctype htmlsvg>?x\n", max_size=400).map(str.encode))
def test_every_file_is_something_or_nothing(head: bytes) -> None:
    for sniffer in (MagicSniffer(), FiletypeSniffer()):
        found = sniffer.sniff(head)
        assert found is None or "/" in found


@pytest.mark.parametrize("unit", [b" ", b"<!--", b"<?", b"<!doctype [", b"]", b"<!doctype a", b"<!-- -->", b"<svg:"])
def test_text_of_which_nothing_comes_takes_no_time_to_speak_of(unit: bytes) -> None:
    """The suite's own time limit is what this fails by."""
    for start in (b"", b"<!doctype [", b"<?xml ?>"):
        text_type((start + unit * SNIFF_BYTES)[:SNIFF_BYTES])


def test_many_threads_may_look_at_once() -> None:
    sniffer = MagicSniffer()
    names = ["image/png", "application/pdf", "text/html", "image/gif"] * 250
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda mime: sniffer.sniff(FILES[mime]), names)) == names


def test_the_best_there_is_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(find_sniffer(), MagicSniffer)
    monkeypatch.setitem(sys.modules, "magic", None)
    assert isinstance(find_sniffer(), FiletypeSniffer)
    monkeypatch.setitem(sys.modules, "filetype", None)
    with pytest.raises(NoSniffer, match=r"install tusd-py\[sniff\]"):
        find_sniffer()
