"""What an `OSError` means."""

from __future__ import annotations

import errno
import os

import pytest

from tusd_py.fs.errors import translate
from tusd_py.ports.failures import OutOfSpace, ReadOnlyStorage, StorageFailure, UploadNotFound


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, OutOfSpace),
        (errno.EDQUOT, OutOfSpace),
        (errno.EFBIG, OutOfSpace),
        (errno.EROFS, ReadOnlyStorage),
        (errno.EACCES, ReadOnlyStorage),
        (errno.EPERM, ReadOnlyStorage),
        (errno.ENOENT, UploadNotFound),
        (errno.ENOTDIR, UploadNotFound),
        (errno.ENAMETOOLONG, UploadNotFound),
        (errno.EIO, StorageFailure),
        (errno.EMFILE, StorageFailure),
    ],
)
def test_errors_have_meanings(number: int, kind: type[StorageFailure]) -> None:
    failure = translate(OSError(number, os.strerror(number)), "opening 'x'", missing=UploadNotFound)
    assert type(failure) is kind
    assert str(failure) == f"opening 'x': {os.strerror(number)}"


def test_a_missing_name_is_just_a_failure_unless_the_caller_says_otherwise() -> None:
    assert type(translate(OSError(errno.ENOENT, "x"), "doing")) is StorageFailure


def test_an_error_without_a_number_keeps_its_text() -> None:
    assert str(translate(OSError("strange"), "doing")) == "doing: strange"
