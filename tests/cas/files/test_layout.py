"""Names of files, and directories made on the way to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tusd_py_cas.layout import Layout, file_name, make_directory, parse_file_name, write_temporary
from tusd_py_cas.model import Codec

from tests.cas.files.contents import noise

NAME = bytes(range(0xA0, 0xC0))


@pytest.mark.parametrize("codec", Codec)
def test_names_of_files_say_what_is_in_them(codec: Codec) -> None:
    assert parse_file_name(file_name(NAME, codec)) == (NAME, codec)


def test_names_of_files_are_as_they_have_always_been() -> None:
    assert Layout("/r").chunk(NAME, Codec.RAW) == f"/r/chunks/a0/{NAME.hex()}"
    assert Layout("/r").chunk(NAME, Codec.ZSTD) == f"/r/chunks/a0/{NAME.hex()}.zst"


@pytest.mark.parametrize("name", [b"", b"../../etc/passwd", NAME[:-1], NAME + b"\0", b"/" * 64])
def test_no_path_is_made_of_anything_but_a_name(name: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        file_name(name, Codec.RAW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        NAME.hex()[:-1],
        NAME.hex() + "0",
        NAME.hex().upper(),
        NAME.hex() + ".ZST",
        NAME.hex() + ".zst.zst",
        NAME.hex() + ".zst\n",
        NAME.hex() + "\n",
        " " + NAME.hex(),
        NAME.hex() + ".tmp",
        "../" + NAME.hex(),
        "g" * 64,
        "\u0661" * 64,  # digits, but not those of hexadecimal numbers
        NAME.hex()[:-1] + "\udc80",
    ],
)
def test_other_names_are_none_of_ours(text: str) -> None:
    assert parse_file_name(text) is None


def test_directories_are_for_their_owner_only(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    make_directory(str(deep), durable=True)
    make_directory(str(deep), durable=True)
    assert [path.stat().st_mode & 0o777 for path in (deep, deep.parent, deep.parent.parent)] == [0o700] * 3


def test_a_directory_can_not_be_made_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(FileExistsError):
        make_directory(str(tmp_path / "a"), durable=True)
    with pytest.raises(NotADirectoryError):
        make_directory(str(tmp_path / "a" / "b"), durable=True)


def test_a_parent_that_takes_no_children_is_an_error() -> None:
    with pytest.raises(OSError, match="/proc"):
        make_directory("/proc/tusd-py/cas", durable=True)


def test_a_temporary_file_takes_nobodys_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_temporary(str(path), noise(100), durable=True)
    with pytest.raises(FileExistsError):
        write_temporary(str(path), b"other", durable=True)
    os.symlink(tmp_path / "elsewhere", tmp_path / "link")
    with pytest.raises(FileExistsError):
        write_temporary(str(tmp_path / "link"), b"other", durable=True)
    assert path.read_bytes() == noise(100)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "elsewhere").exists()
