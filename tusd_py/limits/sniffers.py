"""Who knows types by bytes: libmagic where it is installed, else the package `filetype` and a rule for text of our own.

libmagic knows far more; it is C that reads what strangers send. `filetype` knows no text, and what browsers run is text.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any

__all__ = ["FiletypeSniffer", "MagicSniffer", "NoSniffer", "find_sniffer", "text_type"]


class NoSniffer(Exception):
    """Nothing is installed that knows types by bytes. The message says what to install."""


class MagicSniffer:
    """libmagic by python-magic. Raises `NoSniffer` where one of them is missing.

    One cookie, used by one thread at a time (python-magic has a lock for each): a look takes a few microseconds, up to two
    tenths of a millisecond for bytes that mean nothing, so that waiting for another's is no harm.
    """

    def __init__(self) -> None:
        try:
            import magic
        except ImportError as error:  # the package is missing, or it does not find the library
            raise NoSniffer(str(error)) from None
        self._failure: type[Exception] = magic.MagicException
        self._magic: Any = magic.Magic(mime=True)

    def __repr__(self) -> str:
        return "<MagicSniffer>"

    def sniff(self, head: bytes) -> str | None:
        try:
            found = self._magic.from_buffer(head)
        except self._failure:  # it gives up on what is too deeply nested
            return None
        return str(found) if found else None


class FiletypeSniffer:
    """The package `filetype`, and `text_type` for what it does not know. Raises `NoSniffer` where it is missing."""

    def __init__(self) -> None:
        try:
            import filetype
        except ImportError as error:
            raise NoSniffer(str(error)) from None
        self._guess: Callable[[bytes], str | None] = filetype.guess_mime

    def __repr__(self) -> str:
        return "<FiletypeSniffer>"

    def sniff(self, head: bytes) -> str | None:
        return self._guess(head) or text_type(head)


def find_sniffer() -> MagicSniffer | FiletypeSniffer:
    """The best there is. Raises `NoSniffer`."""
    for kind in (MagicSniffer, FiletypeSniffer):
        try:
            return kind()
        except NoSniffer:
            continue
    raise NoSniffer("neither python-magic with libmagic nor filetype is installed: install tusd-py[sniff]")


_HTML = re.compile(
    r"<(!doctype\s+html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|img|link|meta|object|embed|form)[\s/>]",
    re.IGNORECASE,
)
"""What makes a browser take a file for HTML (WHATWG MIME Sniffing, 7.1), and a few more tags that it would act on."""

_PROLOG = re.compile(r"(\s+|<\?.*?\?>|<!--.*?-->|<!doctype\s+(?!\s|html)[^>\[]*(\[.*?\]\s*)?>)+", re.IGNORECASE | re.DOTALL)
_COMMENT = re.compile(r"\s*<!--")
_ROOT = re.compile(r"<(?:[\w.-]+:)?([\w.-]+)")
_XML_ROOTS = {"svg": "image/svg+xml", "html": "application/xhtml+xml"}
_BINARY = re.compile(r"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")
"""Control characters that no text has (WHATWG MIME Sniffing, 3)."""


def text_type(head: bytes) -> str | None:
    """text/html, image/svg+xml, application/xhtml+xml, application/xml or text/plain; None for what is no text."""
    text = _decoded(head)
    if text is None or _BINARY.search(text):
        return None
    start = _PROLOG.match(text)
    rest = text[start.end() :] if start else text
    is_xml = text.lstrip().startswith("<?xml")
    root = _ROOT.match(rest)
    if root and (is_xml or root[1].lower() == "svg"):
        return _XML_ROOTS.get(root[1].lower(), "application/xml")
    if _HTML.match(rest) or (not is_xml and _COMMENT.match(text)):
        return "text/html"
    return "application/xml" if is_xml else "text/plain"


_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def _decoded(head: bytes) -> str | None:
    """The text, if it is one: UTF-8, UTF-16 with its mark, or else what every byte of is a character of."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return codecs.getincrementaldecoder(encoding)("replace").decode(head[len(mark) :])
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head)  # its last character may be cut
    except UnicodeDecodeError:
        return head.decode("latin-1")
