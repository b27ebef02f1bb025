"""Nothing is ever outside the upload directory."""

from __future__ import annotations

import os.path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.fs.paths import OutsideRoot, ancestors, check_id, confine, data_path, flat_name, info_path, state_path
from tusd_py.ports.failures import UploadNotFound

BAD_IDS = ["", ".", "..", "../x", "a/../b", "/x", "x/", "a//b", "./x", ".x", "a/.x", "a\0"]
BAD_IDS += ["x.info", "x.lock", "x.stop", "x.info/y"]

ELSEWHERE = ["", "/", ".", "..", "/r", "/r/", "/etc/passwd", "../x", "/r/../x", "/rx", "/r2/x", "//r/x", "a/../../x", "x\0"]
NOT_FOR_UPLOADS = ["/r/x.info", "/r/.tusd-py/tmp/x", ".tusd-py", "a/../.tusd-py/x"]


def test_names_of_files() -> None:
    assert data_path("/r", "a/b") == "/r/a/b"
    assert info_path("/r", "a/b") == "/r/a/b.info"
    assert state_path("/r", "tmp") == "/r/.tusd-py/tmp"


@pytest.mark.parametrize("upload_id", BAD_IDS)
def test_what_is_no_id_names_no_file(upload_id: str) -> None:
    for name in (check_id, lambda text: data_path("/r", text), lambda text: info_path("/r", text)):
        with pytest.raises(UploadNotFound):
            name(upload_id)


@pytest.mark.parametrize(
    ("path", "confined"),
    [
        ("/r/x", "/r/x"),
        ("x", "/r/x"),
        ("r", "/r/r"),
        ("a/../x", "/r/x"),
        ("/r/a/./b//c", "/r/a/b/c"),
        ("/r/../r/x", "/r/x"),
        ("x/", "/r/x"),
        ("/r/.hidden", "/r/.hidden"),
    ],
)
def test_paths_below_the_root_are_normalised(path: str, confined: str) -> None:
    assert confine("/r", path) == confined


@pytest.mark.parametrize("path", ELSEWHERE + NOT_FOR_UPLOADS)
def test_paths_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(OutsideRoot):
        confine("/r", path)


@given(st.text(alphabet="./ar\0", max_size=12))
def test_confinement_holds_for_whatever(path: str) -> None:
    try:
        confined = confine("/r", path)
    except OutsideRoot:
        return
    assert confined.startswith("/r/")
    assert os.path.normpath(confined) == confined


def test_the_directories_that_lead_to_a_file() -> None:
    assert ancestors("/r", "/r/a/b/c") == ["/r/a/b", "/r/a", "/r"]
    assert ancestors("/r", "/r/c") == ["/r"]


def test_flat_names_are_names_and_differ() -> None:
    ids = ["a", "a/b", "a%2Fb", "A", "~", "x" * 300, "x" * 301, "a/" * 150 + "a", "."]
    names = [flat_name(upload_id) for upload_id in ids]
    assert len(set(names)) == len(ids)
    assert all("/" not in name and len(name) <= 200 for name in names)
    assert flat_name("a/b") == "a%2Fb"
