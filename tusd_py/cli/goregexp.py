"""Go's regular expressions (RE2 syntax) as Python's.

People move their -cors-allow-origin over from tusd, and a pattern that silently means something else there decides which
origins may read uploads. So everything that Go refuses is refused, and what both accept but read differently is rewritten;
the few things of RE2 that `re` cannot say (Unicode classes, ungreedy mode) are refused too, by name.
Syntax: https://github.com/google/re2/wiki/Syntax; the cases in the tests were run through Go's regexp package.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["GoRegexpError", "compile_go"]

# The highest repeat count that Go accepts.
MAX_REPEAT = 1000

_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}

_REPEAT = re.compile(r"[*+?]\??|\{(\d+)(?:,(\d*))?\}\??")
_GROUP = re.compile(r"\(\?(?:P?<(\w+)>|([a-zA-Z]*)(?:-([a-zA-Z]+))?(:|\)))")
_HEX = re.compile(r"\\x(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2}))")
_OCTAL = re.compile(r"\\(?:0[0-7]{0,2}|[1-7][0-7]{1,2})")
_POSIX_CLASS = re.compile(r"\[:(\^?)(\w+):\]")


class GoRegexpError(ValueError):
    """A pattern that Go refuses, or that `re` cannot say."""


def compile_go(pattern: str) -> re.Pattern[str]:
    """The pattern, ready to `search` with. Raises `GoRegexpError`."""
    try:
        # \d, \w, \s and \b are ASCII in Go.
        return re.compile(_Translation(pattern).result(), re.ASCII)
    except re.error as error:
        raise GoRegexpError(str(error)) from None


class _Translation:
    """One pass over the pattern. `extra` counts, for each group still open, the flag groups that were opened inside it."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.position = pattern, 0
        self.parts: list[str] = []
        self.extra = [0]
        self.flags = [""]
        self.flag_amid_branch = [False]
        self.after_repeat = False

    def result(self) -> str:
        while self.position < len(self.pattern):
            step = self._STEPS.get(self.pattern[self.position], _Translation._literal)
            repeated = step in (_Translation._repeat, _Translation._brace) and bool(_REPEAT.match(self.pattern, self.position))
            step(self)
            self.after_repeat = repeated
        if len(self.extra) > 1:
            raise GoRegexpError("missing closing )")
        return "".join(self.parts) + ")" * self.extra[0]

    def _take(self, count: int, replacement: str | None = None) -> None:
        taken = self.pattern[self.position : self.position + count]
        self.parts.append(taken if replacement is None else replacement)
        self.position += count

    def _literal(self) -> None:
        self._take(1)

    def _end_of_text(self) -> None:
        # Python's $ also matches before a final newline; Go's does only with (?m), which Python reads alike.
        self._take(1, "$" if "m" in self.flags[-1] else r"\Z")

    def _repeat(self) -> None:
        found = _REPEAT.match(self.pattern, self.position)
        assert found
        if self.after_repeat:
            raise GoRegexpError(f"invalid nested repetition operator {found[0]!r}")
        if any(int(number) > MAX_REPEAT for number in found.groups() if number):
            raise GoRegexpError(f"invalid repeat count {found[0]!r}")
        self._take(len(found[0]))

    def _brace(self) -> None:
        # What does not look like a repeat count is literal in Go; Python would also read {,3} as one.
        if _REPEAT.match(self.pattern, self.position):
            self._repeat()
        else:
            self._take(1, r"\{")

    def _group(self) -> None:
        if not self.pattern.startswith("(?", self.position):
            self._open("(", 1, self.flags[-1])
            return
        found = _GROUP.match(self.pattern, self.position)
        if not found:
            raise GoRegexpError(f"invalid or unsupported Perl syntax {self.pattern[self.position : self.position + 4]!r}")
        if found[1]:
            self._open(f"(?P<{found[1]}>", len(found[0]), self.flags[-1])
        else:
            self._flagged(found)

    def _flagged(self, found: re.Match[str]) -> None:
        on, off = found[2], found[3] or ""
        if unknown := (set(on) | set(off)) - set("ims"):
            reason = "is not supported here" if unknown == {"U"} else "is unknown"
            raise GoRegexpError(f"flag {min(unknown)!r} of {found[0]!r} {reason}")
        flags = "".join(sorted((set(self.flags[-1]) | set(on)) - set(off)))
        start = f"(?{on}{'-' + off if off else ''}:" if on or off else "(?:"
        if found[4] == ":":
            self._open(start, len(found[0]), flags)
        else:
            # `(?i)` holds to the end of the group around it; Python wants a group of its own for that.
            self.flag_amid_branch[-1] |= bool(self.parts) and self.parts[-1][0] not in "(|"
            self._take(len(found[0]), start)
            self.extra[-1] += 1
            self.flags[-1] = flags

    def _open(self, start: str, length: int, flags: str) -> None:
        self._take(length, start)
        self.extra.append(0)
        self.flags.append(flags)
        self.flag_amid_branch.append(False)

    def _close(self) -> None:
        if len(self.extra) == 1:
            raise GoRegexpError("unexpected )")
        self.flags.pop()
        self.flag_amid_branch.pop()
        self._take(1, ")" * (self.extra.pop() + 1))

    def _alternative(self) -> None:
        # a(?i)b|c: the flag holds for c as well, but the group that stands for it would swallow the choice.
        if self.flag_amid_branch[-1]:
            raise GoRegexpError("a flag in the middle of alternatives is not supported here: write (?i:...)")
        self._take(1)

    def _escape(self) -> None:
        if self.pattern.startswith(r"\Q", self.position):
            quoted, _, _ = self.pattern[self.position + 2 :].partition(r"\E")
            length = len(quoted) + (4 if self.pattern.startswith(r"\E", self.position + 2 + len(quoted)) else 2)
            self._take(length, re.escape(quoted))
        elif self.pattern.startswith(r"\z", self.position):
            self._take(2, r"\Z")
        elif self.pattern[self.position + 1 : self.position + 2] in ("A", "b", "B"):
            self._take(2)
        else:
            self._common_escape(_SPACES)

    def _common_escape(self, spaces: dict[str, str]) -> None:
        """Escapes that mean the same inside a class and outside."""
        following = self.pattern[self.position + 1 : self.position + 2]
        if found := _HEX.match(self.pattern, self.position):
            self._take(len(found[0]), _codepoint(int(found[1] or found[2], 16)))
        elif found := _OCTAL.match(self.pattern, self.position):
            self._take(len(found[0]), _codepoint(int(found[0][1:], 8)))
        elif following and (following in "dDwWsSafnrtv" or (following.isascii() and not following.isalnum())):
            # Go's \s has no vertical tab, Python's does.
            self._take(2, spaces.get(following))
        elif following in ("p", "P"):
            raise GoRegexpError(r"Unicode classes (\p) are not supported here")
        else:
            raise GoRegexpError(f"invalid escape sequence {self.pattern[self.position : self.position + 2]!r}")

    def _bracket(self) -> None:
        start = 2 if self.pattern.startswith("[^", self.position) else 1
        self._take(start)
        first = True
        while first or not self.pattern.startswith("]", self.position):
            if self.position >= len(self.pattern):
                raise GoRegexpError("missing closing ]")
            self._class_item()
            first = False
        self._take(1)

    def _class_item(self) -> None:
        character = self.pattern[self.position]
        if self.pattern.startswith("[:", self.position) and (found := _POSIX_CLASS.match(self.pattern, self.position)):
            if found[2] not in _POSIX or found[1]:
                raise GoRegexpError(f"character class {found[0]} is not supported here")
            self._take(len(found[0]), _POSIX[found[2]])
        elif character == "\\":
            self._common_escape(_SPACES_IN_CLASS)
        else:
            # [, &, | and ~ are plain in Go, and may mean set operations in a later Python.
            self._take(1, f"\\{character}" if character in "[]&|~" else None)

    _STEPS: dict[str, Callable[[_Translation], None]] = {  # noqa: RUF012
        "$": _end_of_text,
        "(": _group,
        ")": _close,
        "*": _repeat,
        "+": _repeat,
        "?": _repeat,
        "[": _bracket,
        "\\": _escape,
        "{": _brace,
        "|": _alternative,
    }


_SPACES = {"s": r"[\t\n\f\r ]", "S": r"[^\t\n\f\r ]"}
_SPACES_IN_CLASS = {"s": r"\t\n\f\r ", "S": r"\S\v"}


def _codepoint(number: int) -> str:
    if number > 0x10FFFF:
        raise GoRegexpError("a character beyond U+10FFFF")
    return re.escape(chr(number))
