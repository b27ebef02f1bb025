"""Which files may be uploaded, by what the client says of them and by what their first bytes are. Pure tables and rules.

What is declared is judged at creation, by the keys that tus clients send: `filename` or `name`, and `filetype` or `type` (Uppy
sends all four). What the bytes are is somebody else's to find out, and judged here. A declaration is a claim, and the bytes
are often less telling than it: a CSV file is text to most who look at it. So a type that is declared and allowed stands unless
the bytes contradict it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.refusals import TypeNotAllowed

__all__ = ["TypeRules", "check_bytes", "check_declared", "declared_name", "declared_types", "parse_extensions", "parse_types"]

UNKNOWN = "application/octet-stream"
EMPTY = frozenset({"application/x-empty", "inode/x-empty"})

NAME_KEYS = ("filename", "name")
"""The first that there is counts: `name` may be a person's where there is a `filename`."""

TYPE_KEYS = frozenset({"filetype", "type", "contenttype", "content-type", "content_type", "mimetype", "mime-type", "mime_type"})

ALIASES = {
    "application/font-sfnt": "font/sfnt",
    "application/javascript": "text/javascript",
    "application/rtf": "text/rtf",
    "application/vnd.ms-word": "application/msword",
    "application/vnd.rar": "application/x-rar",
    "application/vnd.sqlite3": "application/x-sqlite3",
    "application/x-bzip": "application/x-bzip2",
    "application/x-dosexec": "application/vnd.microsoft.portable-executable",
    "application/x-gzip": "application/gzip",
    "application/x-javascript": "text/javascript",
    "application/x-msdownload": "application/vnd.microsoft.portable-executable",
    "application/x-ndjson": "application/json",
    "application/x-pdf": "application/pdf",
    "application/x-rar-compressed": "application/x-rar",
    "application/x-zip": "application/zip",
    "application/x-zip-compressed": "application/zip",
    "application/x-zstd": "application/zstd",
    "audio/mp3": "audio/mpeg",
    "audio/m4a": "audio/mp4",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-aac": "audio/aac",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
    "audio/x-mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/vnd.microsoft.icon": "image/x-icon",
    "image/x-bmp": "image/bmp",
    "image/x-ms-bmp": "image/bmp",
    "image/x-png": "image/png",
    "text/x-markdown": "text/markdown",
    "text/xml": "application/xml",
    "video/avi": "video/x-msvideo",
    "video/matroska": "video/x-matroska",
    "video/msvideo": "video/x-msvideo",
}
"""Several names of one type, with the one that is used here: browsers, libmagic and the registry differ."""

SIGNED = frozenset(
    {
        "application/gzip",
        "application/pdf",
        "application/x-7z-compressed",
        "application/x-bzip2",
        "application/x-rar",
        "application/x-xz",
        "application/zip",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "video/webm",
        "video/x-matroska",
    }
)
"""Types that every file of begins with a signature that whoever looks at bytes knows: unknown bytes are none of these."""

ACTIVE = frozenset({"text/html", "image/svg+xml", "application/xhtml+xml", "application/xml"})
"""Text that a browser may run. It does not pass for plain text."""

_TEXTUAL = re.compile(
    r"text/.+|message/.+|.+\+(json|xml|yaml)|image/svg\+xml"
    r"|application/(json|xml|sql|toml|yaml|x-yaml|x-sh|x-tex|x-subrip|x-httpd-php|x-perl|pgp-keys|pgp-signature|x-pem-file)"
)
_ZIPPED = re.compile(
    r"application/(vnd\.(openxmlformats|oasis\.opendocument|ms-\w+\.\w+\.macroenabled|android\.package|apple\.(pages|numbers|keynote)"
    r"|google-earth\.kmz|comicbook\+zip|iccprofile).*|java-archive|x-java-archive|x-cbz|x-xpinstall)|.+\+zip|model/3mf"
)
_GENERAL: dict[str, re.Pattern[str]] = {
    "text/plain": _TEXTUAL,
    "application/json": re.compile(r".+\+json|text/javascript|application/geo\+json"),
    "application/xml": re.compile(r".+\+xml|text/html"),
    "application/zip": _ZIPPED,
    "application/gzip": re.compile(r".+\+gzip|application/(x-tgz|x-compressed-tar|x-gtar)|image/svg\+xml-compressed"),
    "application/x-ole-storage": re.compile(r"application/(msword|vnd\.ms-.+|vnd\.visio|x-msi)|image/x-.+"),
    "application/cdfv2": re.compile(r"application/(msword|vnd\.ms-.+|vnd\.visio|x-msi)"),
    "application/ogg": re.compile(r"(audio|video)/(ogg|opus|vorbis|x-.+\+ogg)"),
    "video/mp4": re.compile(r"audio/mp4|video/(quicktime|x-m4v|3gpp2?)"),
    "video/quicktime": re.compile(r"video/(mp4|x-m4v)|audio/mp4"),
    "video/x-matroska": re.compile(r"video/webm|audio/(webm|x-matroska)"),
    "video/webm": re.compile(r"audio/webm"),
    "video/x-ms-asf": re.compile(r"(audio|video)/x-ms-wm[av]"),
    "image/tiff": re.compile(r"image/x-.+"),
    "font/sfnt": re.compile(r"font/.+"),
    "video/3gpp": re.compile(r"audio/3gpp|video/mp4"),
}
"""What bytes are often taken for, and what they may be in truth: the container, of which the declared type is a kind."""

_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
_PATTERN = re.compile(rf"\*/\*|[a-z0-9][a-z0-9!#$&^_.+-]*/\*|{_TYPE.pattern}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_EXTENSION = re.compile(r"[^\s./\\*?]+(\.[^\s./\\*?]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRules:
    """What is allowed; empty is everything. `types` are `image/png`, `image/*` or `*/*`; `extensions` have no leading dot."""

    types: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()

    def allows(self, mime: str) -> bool:
        """Whether a type in its usual name is among those allowed."""
        return any(pattern in ("*/*", mime) or (pattern[-1] == "*" and mime.startswith(pattern[:-1])) for pattern in self.types)


def parse_types(text: str) -> tuple[str, ...]:
    """Read `image/*, application/pdf`. Raises `ValueError`, whose message says what was expected."""
    found = []
    for word in _words(text):
        if not _PATTERN.fullmatch(word):
            raise ValueError(f"{word!r} is no media type: expected types such as image/png or image/*, separated by commas")
        found.append(_usual(word))
    return tuple(dict.fromkeys(found))


def parse_extensions(text: str) -> tuple[str, ...]:
    """Read `.jpg, png, tar.gz`. Raises `ValueError`, whose message says what was expected."""
    found = []
    for word in _words(text):
        extension = word.removeprefix("*").removeprefix(".")
        if not _EXTENSION.fullmatch(extension):
            raise ValueError(f"{word!r} is no file extension: expected extensions such as jpg or tar.gz, separated by commas")
        found.append(extension)
    return tuple(dict.fromkeys(found))


def _words(text: str) -> list[str]:
    return [word.strip().lower() for word in text.split(",") if word.strip()]


def _usual(mime: str) -> str:
    return ALIASES.get(mime, mime)


# What is declared


def declared_name(metadata: Metadata) -> str | None:
    """The name of the file, without directories; None where none is declared."""
    for key in NAME_KEYS:
        if name := metadata.text(key):
            return re.split(r"[/\\]", name)[-1]
    return None


def declared_types(metadata: Metadata) -> tuple[str, ...]:
    """Media types that are declared, in their usual names. What says nothing is left out: an empty one, `null` and the like,
    which clients send where a browser knows no type, and application/octet-stream."""
    return tuple(dict.fromkeys(found for found in _declared(metadata) if found != UNKNOWN))


def _declared(metadata: Metadata) -> Iterator[str]:
    for key in metadata.pairs:
        if key.lower() in TYPE_KEYS:
            mime = (metadata.text(key) or "").partition(";")[0].strip().lower()
            if _TYPE.fullmatch(mime):
                yield _usual(mime)


def check_declared(metadata: Metadata, rules: TypeRules) -> None:
    """Raises `TypeNotAllowed` where the declared name or type is not allowed, or no name is declared although names count.

    A type need not be declared: the bytes will tell. What is declared twice must be allowed twice.
    """
    if rules.extensions:
        _check_name(declared_name(metadata), rules)
    if rules.types:
        for mime in declared_types(metadata):
            if not rules.allows(mime):
                raise _refusal(f"{mime} is not allowed", rules)


def _check_name(name: str | None, rules: TypeRules) -> None:
    """The end of the name counts, whatever dots come before: `x.jpg.exe` is an exe. Windows drops dots and blanks there."""
    if name is None:
        raise _name_refusal("the file has no name", rules)
    if _CONTROL.search(name):  # who reads it in C sees another end
        raise _name_refusal("the file's name has control characters", rules)
    bare = name.rstrip(". ").lower()
    for extension in rules.extensions:
        if bare.endswith(f".{extension}") and len(bare) > len(extension) + 1:
            return
    raise _name_refusal("the file's extension is not allowed", rules)


# What the bytes are


def check_bytes(sniffed: str | None, metadata: Metadata, rules: TypeRules) -> None:
    """Raises `TypeNotAllowed` unless bytes that look like `sniffed` (None is unknown) may be what is declared and allowed.

    `metadata` has passed `check_declared`.
    """
    mime = _usual((sniffed or UNKNOWN).lower())
    if not rules.types or mime in EMPTY or rules.allows(mime):
        return
    declared = declared_types(metadata)
    if mime == UNKNOWN:
        if not declared:
            raise _refusal("the file's type is neither declared nor known", rules)
        if any(each in SIGNED for each in declared):
            raise _refusal(f"the file is not what it is declared as ({', '.join(declared)})", rules)
        return
    if any(_may_be(mime, each) for each in declared) or (_is_plain_text(mime) and rules.allows("text/plain")):
        return
    raise _refusal(f"the file looks like {mime}, which is not allowed", rules)


def _may_be(general: str, declared: str) -> bool:
    pattern = _GENERAL.get(general)
    return pattern is not None and pattern.fullmatch(declared) is not None


def _is_plain_text(mime: str) -> bool:
    """What kind of text it is, is a guess, except of text that a browser may run."""
    return mime not in ACTIVE and _TEXTUAL.fullmatch(mime) is not None


def _refusal(why: str, rules: TypeRules) -> TypeNotAllowed:
    return TypeNotAllowed(f"{why}; allowed types are {', '.join(rules.types)}")


def _name_refusal(why: str, rules: TypeRules) -> TypeNotAllowed:
    allowed = ", ".join(f".{extension}" for extension in rules.extensions)
    return TypeNotAllowed(f"{why}; allowed extensions are {allowed}, of the filename in Upload-Metadata")
