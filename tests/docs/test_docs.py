"""The documentation holds together: links lead somewhere, named files exist, code compiles, errors are those of the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tusd_py import create_app
from tusd_py.ports import failures
from tusd_py.protocol import refusals
from tusd_py.protocol.checksum import ALGORITHMS
from tusd_py.protocol.cors import ALLOW_HEADERS, ALLOW_METHODS, EXPOSE_HEADERS
from tusd_py.protocol.refusals import Refusal

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("README.md")])
PROTOCOL = DOCS / "reference" / "protocol.md"

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED_FILE = re.compile(r"`((?:tusd_py|tests)/[\w./-]*)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked by, as GitHub makes it."""
    texts = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(prose(page)))
    return {text.strip().replace(" ", "-") for text in texts}


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Code blocks that begin with a comment which names a file, and where they stand."""
    for page in PAGES:
        for found, code in FENCED.findall(page.read_text()):
            if found == language and re.match(r"# \S+\.py\n", code):
                yield f"{page.relative_to(ROOT)}: {code.splitlines()[0][2:]}", code


@every_page
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@every_page
def test_named_files_exist(page: Path) -> None:
    missing = [name for name in NAMED_FILE.findall(prose(page)) if not (ROOT / name).exists()]
    assert not missing


@every_page
def test_every_page_is_listed_in_the_index(page: Path) -> None:
    listed = {(DOCS / link.partition("#")[0]).resolve() for link in LINK.findall((DOCS / "index.md").read_text())}
    assert page in listed | {DOCS / "index.md", ROOT / "README.md"}


@pytest.mark.parametrize(("where", "code"), list(blocks("python")), ids=lambda value: "" if "\n" in value else value)
def test_python_compiles(where: str, code: str) -> None:
    compile(code, where, "exec")


ALL_REFUSALS = [
    kind for kind in vars(refusals).values() if isinstance(kind, type) and issubclass(kind, Refusal) and kind is not Refusal
]


@pytest.mark.parametrize("kind", ALL_REFUSALS, ids=lambda kind: kind.__name__)
def test_every_refusal_is_documented(kind: type[Refusal]) -> None:
    start = f"| {kind.status} | `{kind.code}` | {kind.__doc__} |"
    assert any(line.startswith(start) for line in PROTOCOL.read_text().splitlines()), f"no row begins {start}"


def test_no_other_refusal_is_documented() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(ERR_\w+)` \|", PROTOCOL.read_text(), re.MULTILINE)
    assert set(rows) == {(str(kind.status), kind.code) for kind in ALL_REFUSALS}
    assert len(rows) == len(ALL_REFUSALS)


def header_list(name: str) -> list[str]:
    """The elements of a header's value in the table of CORS lists, tusd's and those added."""
    row = next(line for line in PROTOCOL.read_text().splitlines() if line.startswith(f"| `{name}` |"))
    return [element for value in re.findall(r"`([^`]+)`", row.split("|")[2]) for element in value.split(", ")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Access-Control-Allow-Methods", ALLOW_METHODS),
        ("Access-Control-Allow-Headers", ALLOW_HEADERS),
        ("Access-Control-Expose-Headers", EXPOSE_HEADERS),
    ],
)
def test_cors_lists_are_those_of_the_code(name: str, value: str) -> None:
    assert header_list(name) == value.split(", ")


def test_checksum_algorithms_are_those_of_the_code() -> None:
    row = next(line for line in PROTOCOL.read_text().splitlines() if line.startswith("| `checksum` |"))
    assert re.findall(r"`(\w+)`", row)[1:] == list(ALGORITHMS)


def first_cells(page: Path) -> set[str]:
    """What stands in the first cells of the page's tables, one name a cell."""
    return set(re.findall(r"^\| `(\w+)` \|", page.read_text(), re.MULTILINE))


def test_every_argument_of_create_app_is_documented() -> None:
    assert set(inspect.signature(create_app).parameters) <= first_cells(DOCS / "reference" / "embedding-api.md")


def test_every_failure_is_documented() -> None:
    assert set(failures.__all__) <= first_cells(DOCS / "reference" / "embedding-api.md")


def test_constants_of_the_data_path_are_where_the_page_says() -> None:
    rows = re.findall(
        r"^\| (`[A-Z_`, ]+`) \| .*? \| (`tusd_py/[^|]+`) \|", (DOCS / "explanation" / "data-path.md").read_text(), re.M
    )
    assert len(rows) > 10
    for names, files in rows:
        for file in re.findall(r"`([^`]+)`", files):
            code = (ROOT / file).read_text()
            for name in re.findall(r"`([^`]+)`", names):
                assert re.search(rf"^{name} = ", code, re.MULTILINE), f"{name} is not defined in {file}"
