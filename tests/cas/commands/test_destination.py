"""Files that appear whole or not at all, below their directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tusd_py_cas.commands.destination import Destination, Exists, InTheWay

from tests.support.mounts import mounted_tmpfs, requires_mounts


def write(root: Path, path: str, *content: bytes, force: bool = False) -> None:
    with Destination(str(root)) as destination:
        destination.write(path.encode().split(b"/"), content, force=force, modified=1e9)


def everything(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_a_file_in_directories_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "a/b/c", b"one", b"two")
    assert (tmp_path / "a/b/c").read_bytes() == b"onetwo"
    assert (tmp_path / "a/b/c").stat().st_mtime == 1e9
    assert everything(tmp_path) == {"a", "a/b", "a/b/c"}


def test_files_of_many_directories_one_after_the_other(tmp_path: Path) -> None:
    with Destination(str(tmp_path)) as destination:
        for path in ("a/x", "a/y", "b/z", "w", "a/v"):
            destination.write(path.encode().split(b"/"), [path.encode()], force=False, modified=0)
    for path in ("a/x", "a/y", "b/z", "w", "a/v"):
        assert (tmp_path / path).read_bytes() == path.encode()


def test_what_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(Exists):
        write(tmp_path, "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert everything(tmp_path) == {"a"}


def test_what_appears_while_it_is_written_is_kept(tmp_path: Path) -> None:
    def content() -> Iterator[bytes]:
        (tmp_path / "a").write_bytes(b"old")
        yield b"new"

    with pytest.raises(Exists), Destination(str(tmp_path)) as destination:
        destination.write([b"a"], content(), force=False, modified=0)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert everything(tmp_path) == {"a"}


def test_force_replaces(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    write(tmp_path, "a", b"new", force=True)
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "a").symlink_to("elsewhere")
    with pytest.raises(Exists):
        write(tmp_path, "a", b"new")
    write(tmp_path, "a", b"new", force=True)
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_a_link_to_a_directory_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "a").symlink_to(tmp_path / "outside")
    with pytest.raises(InTheWay):
        write(tmp_path / "inside", "a/b", b"new", force=True)
    assert everything(tmp_path / "outside") == set()


def test_a_file_where_a_directory_is_needed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(InTheWay):
        write(tmp_path, "a/b", b"new", force=True)


def test_a_directory_where_a_file_is_needed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InTheWay):
        write(tmp_path, "a", b"new", force=True)
    with pytest.raises(Exists):
        write(tmp_path, "a", b"new")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))])
def test_what_is_no_file_is_never_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a")
    before = os.lstat(tmp_path / "a")
    with pytest.raises(InTheWay):
        write(tmp_path, "a", b"new", force=True)
    assert os.path.samestat(os.lstat(tmp_path / "a"), before)
    assert everything(tmp_path) == {"a"}


def test_nothing_is_left_of_what_fails_half_way(tmp_path: Path) -> None:
    def content() -> Iterator[bytes]:
        yield b"new"
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError), Destination(str(tmp_path)) as destination:
        destination.write([b"a"], content(), force=False, modified=0)
    assert everything(tmp_path) == set()


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write(tmp_path, "a")
    mode = stat.S_IMODE((tmp_path / "a").stat().st_mode)
    assert mode == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


@pytest.mark.root
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    requires_mounts()
    (tmp_path / "small").mkdir()
    with mounted_tmpfs(tmp_path / "small", "size=1m") as small:
        with pytest.raises(OSError, match="No space"):
            write(small, "a/b", os.urandom(2 << 20))
        assert everything(small) == {"a"}
