"""Upload-Concat, and what a partial's URL names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.protocol.concat import MAX_PARTIALS, parse_concat, partial_id
from tusd_py.protocol.ids import is_valid_id
from tusd_py.protocol.refusals import InvalidConcat, Refusal, UploadMissing

READ = [
    ("partial", None),
    ("final;/files/a", ("/files/a",)),
    ("final; /files/a", ("/files/a",)),
    ("final;/files/a /files/b", ("/files/a", "/files/b")),
    ("final;  /files/a   /files/b  ", ("/files/a", "/files/b")),
    ("final;/files/a /files/a", ("/files/a", "/files/a")),
    ("final;http://h/files/a;x", ("http://h/files/a;x",)),
]


@pytest.mark.parametrize(("value", "partials"), READ)
def test_values_are_read(value: str, partials: tuple[str, ...] | None) -> None:
    assert parse_concat(value) == partials


@pytest.mark.parametrize(
    "value",
    ["", "final", "final;", "final; ", "final /files/a", "Partial", "partial;", "partial ", "finals;/a", ";/a", "/files/a"],
)
def test_everything_else_is_refused(value: str) -> None:
    with pytest.raises(InvalidConcat, match="invalid Upload-Concat header"):
        parse_concat(value)


def test_there_may_be_so_many_partials_and_no_more() -> None:
    assert len(parse_concat("final;" + " ".join(["/a"] * MAX_PARTIALS)) or ()) == MAX_PARTIALS
    with pytest.raises(InvalidConcat, match=str(MAX_PARTIALS)):
        parse_concat("final;" + " ".join(["/a"] * (MAX_PARTIALS + 1)))


HOSTS = frozenset({"tus.example", "tus.example:8443"})

NAMED = [
    ("/files/a", "a"),
    ("/files/a/", "a"),
    ("/files/dir/a", "dir/a"),
    ("/files/a?x=1", "a"),
    ("/files/a?capability=tc1.adt.0.AAAA-_/..", "a"),
    ("/files/a#here", "a"),
    ("/files/%61", "a"),
    ("/files/dir%2Fa", "dir/a"),
    ("http://tus.example/files/a", "a"),
    ("https://tus.example/files/a?x#y", "a"),
    ("https://TUS.example/files/a", "a"),
    ("http://tus.example:8443/files/a", "a"),
]

ELSEWHERE = [
    "",
    "a",
    "files/a",
    "/a",
    "/Files/a",
    "/files",
    "//tus.example/files/a",
    "http://other.example/files/a",
    "http://tus.example:80/files/a",
    "http://user@tus.example/files/a",
    "http://tus.example",
    "http://tus.example/",
    "http://tus.example/other/a",
    "http:///files/a",
    "://",
]

NOWHERE = [
    "/files/",
    "/files//",
    "/files/..",
    "/files/%2e%2e/a",
    "/files/a%00",
    "/files/a%FF",
    "/files/a b",
    "/files/?a",
    "/files/a.info",
]


@pytest.mark.parametrize(("url", "upload_id"), NAMED)
def test_urls_of_this_server_name_an_upload(url: str, upload_id: str) -> None:
    assert partial_id(url, "/files/", HOSTS) == upload_id


@pytest.mark.parametrize("url", ELSEWHERE)
def test_urls_of_other_places_are_refused(url: str) -> None:
    with pytest.raises(InvalidConcat):
        partial_id(url, "/files/", HOSTS)


@pytest.mark.parametrize("url", NOWHERE)
def test_no_upload_is_where_none_can_be(url: str) -> None:
    with pytest.raises(UploadMissing):
        partial_id(url, "/files/", HOSTS)


@given(
    st.one_of(st.text(), st.text().map(lambda rest: "/files/" + rest), st.text().map(lambda rest: "http://tus.example" + rest))
)
def test_whatever_the_url_an_id_comes_out_or_a_refusal(url: str) -> None:
    try:
        upload_id = partial_id(url, "/files/", HOSTS)
    except (InvalidConcat, UploadMissing):
        return
    assert is_valid_id(upload_id)


@given(st.one_of(st.text(), st.text().map(lambda rest: "final;" + rest)))
def test_reading_fails_only_as_documented(value: str) -> None:
    try:
        partials = parse_concat(value)
    except Refusal as refusal:
        assert type(refusal) is InvalidConcat
        return
    assert partials is None or (partials and all(partials))
