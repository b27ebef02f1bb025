"""Refusals: each has a status, a code and a message."""

from __future__ import annotations

import inspect
import re
from http import HTTPStatus

import pytest

from tusd_py.protocol import refusals
from tusd_py.protocol.refusals import Refusal

CLASSES = [
    each
    for _, each in inspect.getmembers(refusals, inspect.isclass)
    if issubclass(each, Refusal) and each is not Refusal and each.__module__ == refusals.__name__
]


def test_all_of_them_are_public() -> None:
    assert refusals.__all__ == sorted(refusals.__all__)
    assert set(refusals.__all__) == {each.__name__ for each in CLASSES} | {"Refusal"}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_refusal_has_status_code_and_message(kind: type[Refusal]) -> None:
    assert kind.status in {status.value for status in HTTPStatus if status.value >= 400} | {460}
    assert re.fullmatch(r"ERR_[A-Z_]+", kind.code)
    message = inspect.getdoc(kind)
    assert message and "\n" not in message and not message.endswith(".")
    assert str(kind()) == message
    assert kind().body == f"{kind.code}: {message}\n"


@pytest.mark.parametrize("kind", CLASSES)
def test_the_docstring_is_its_own(kind: type[Refusal]) -> None:
    assert kind.__doc__ != Refusal.__doc__


def test_codes_are_told_apart() -> None:
    shared = {kind.code for kind in CLASSES if sum(other.code == kind.code for other in CLASSES) > 1}
    assert shared <= {"ERR_INTERNAL_SERVER_ERROR"}, "tusd has the same for every failure of its own and of its hooks"


def test_a_message_of_ones_own() -> None:
    refusal = refusals.InvalidChecksum("the reason", headers={"Name": "value"})
    assert refusal.body == "ERR_INVALID_CHECKSUM: the reason\n"
    assert refusal.headers == {"Name": "value"}
    assert refusals.InvalidChecksum().headers == {}
