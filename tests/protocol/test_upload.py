"""The record of an upload."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.upload import Upload

PLAIN = Upload(id="a", length=5)

FINISHED = [
    (Upload(id="a", length=5), False),
    (Upload(id="a", length=5, offset=4), False),
    (Upload(id="a", length=5, offset=5), True),
    (Upload(id="a", length=0), True),
    (Upload(id="a", length=None), False),
    (Upload(id="a", length=None, offset=5), False),
    (Upload(id="a", length=0, partials=("b",), failure="gone"), False),
    (Upload(id="a", length=0, partials=("b",)), True),
]


@pytest.mark.parametrize(("upload", "finished"), FINISHED)
def test_finished(upload: Upload, finished: bool) -> None:
    assert upload.finished is finished


def test_a_final_is_what_has_partials() -> None:
    assert not PLAIN.is_final
    assert not PLAIN.evolve(is_partial=True).is_final
    assert PLAIN.evolve(partials=()).is_final


CHANGES: dict[str, Any] = {
    "owner": "ann",
    "max_size": 7,
    "held": True,
    "id": "b",
    "length": 6,
    "offset": 3,
    "metadata": Metadata({"a": b""}, "a"),
    "is_partial": True,
    "partials": ("x", "y"),
    "concat": "final;/x /y",
    "failure": "gone",
    "active_at": 12.5,
    "storage": {"Type": "memory"},
}


def test_every_field_can_be_changed() -> None:
    assert set(CHANGES) == {field.name for field in dataclasses.fields(Upload)}


@pytest.mark.parametrize("field", CHANGES)
def test_a_change_is_a_new_record(field: str) -> None:
    changed = PLAIN.evolve(**{field: CHANGES[field]})
    assert changed == dataclasses.replace(PLAIN, **{field: CHANGES[field]})
    assert type(changed) is Upload
    assert Upload(id="a", length=5) == PLAIN != changed


def test_no_change_is_an_equal_record() -> None:
    assert PLAIN.evolve() == PLAIN


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises((TypeError, AttributeError), match="lenght"):
        PLAIN.evolve(lenght=3)


def test_records_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAIN.evolve(offset=1).offset = 2  # type: ignore[misc]
