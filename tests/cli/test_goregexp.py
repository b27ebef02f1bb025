"""Go's regular expressions. What is refused and what matches was tried with Go's regexp package."""

from __future__ import annotations

import pytest

from tusd_py.cli.goregexp import GoRegexpError, compile_go

# Pattern, what it finds, what it does not.
MATCHES = [
    (".*", ["", "https://example.com"], []),
    ("example", ["https://example.com"], ["https://exampel.com"]),
    (
        r"^https://(www\.)?example\.com$",
        ["https://example.com", "https://www.example.com"],
        ["https://exampleXcom", "http://example.com"],
    ),
    ("^a$", ["a"], ["a\n", "b\na"]),
    (r"^a\z", ["a"], ["a\n"]),
    ("(?m)^a$", ["a", "b\na\nc"], ["ba"]),
    (r"\Aa", ["ab"], ["ba"]),
    ("(?i)^HTTPS", ["https", "HTTPS"], ["http"]),
    ("(?i)a|b", ["A", "B"], ["c"]),
    ("a(?i)b", ["ab", "aB"], ["AB"]),
    ("(a(?i)b)c", ["aBc"], ["aBC"]),
    ("x|(?i)b|c", ["x", "B", "C"], ["X"]),
    ("(?i:a)b", ["Ab"], ["AB"]),
    ("(?s)a.b", ["a\nb"], ["ab"]),
    ("(?i-s)a", ["A"], ["b"]),
    ("(?<sub>x)(?P<rest>y)", ["xy"], ["x"]),
    (r"\Qa.b\E+", ["a.b", "a.bb"], ["axb"]),
    (r"\Qa.b", ["a.b"], ["axb"]),
    (r"^\d+$", ["12"], ["٣"]),
    (r"^\w+$", ["a_1"], ["é"]),
    (r"^\s$", [" ", "\t", "\f"], ["\v", "\u00a0"]),
    (r"^[\s]$", [" "], ["\v"]),
    (r"^\S$", ["\v", "a"], [" "]),
    (r"^[[:alpha:]-]+$", ["ab-c"], ["a1"]),
    (r"^[[a]+$", ["[a"], ["b"]),
    (r"^[]a]$", ["]", "a"], ["b"]),
    (r"^[^]a]$", ["b"], ["]", "a"]),
    (r"^[a&&b]+$", ["a&b"], ["c"]),
    (r"^a{,3}$", ["a{,3}"], ["aaa"]),
    ("^a{2,3}$", ["aa", "aaa"], ["a"]),
    ("^a{$", ["a{"], ["a"]),
    (r"^\x{41}\x42\103$", ["ABC"], ["abc"]),
    (r"^\-\_$", ["-_"], ["\\-"]),
    ("^a+?$", ["aa"], ["b"]),
    ("(|a)b", ["b"], ["a"]),
]


@pytest.mark.parametrize(("pattern", "found", "missed"), MATCHES, ids=[case[0] for case in MATCHES])
def test_means_what_it_means_in_go(pattern: str, found: list[str], missed: list[str]) -> None:
    compiled = compile_go(pattern)
    assert [text for text in found + missed if compiled.search(text)] == found


REFUSED_BY_GO = [
    r"\Z", "a*+", "a**", "a???", "x{2}{3}", "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)", "(?#c)", "(?P=a)", "(?a)x", "(?i",
    r"\1", r"\8", r"\u0041", r"\h", r"\C", "a{1001}", "a{2,1}", "[a", ")", "(", "(a", "+a", "*", "[[:foo:]]", r"[\Qa]\E]",
    "[b-a]", "\\", r"\x{110000}", "(?<a>x)(?<a>y)",
]  # fmt: skip


@pytest.mark.parametrize("pattern", REFUSED_BY_GO)
def test_refuses_what_go_refuses(pattern: str) -> None:
    with pytest.raises(GoRegexpError):
        compile_go(pattern)


@pytest.mark.parametrize("pattern", [r"\pL", r"\PL", "(?U)a*", "a(?i)b|c", "[[:^alpha:]]"])
def test_refuses_what_python_cannot_say(pattern: str) -> None:
    with pytest.raises(GoRegexpError, match="not supported here"):
        compile_go(pattern)
