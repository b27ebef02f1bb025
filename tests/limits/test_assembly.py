"""What settings make of limits: nothing where nothing is limited."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tusd_py.assembly.limits import build_limiter, build_types, limits_of
from tusd_py.limits.rules import LimitSettings
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.refusals import QuotaExceeded, TypeNotAllowed
from tusd_py.protocol.upload import Upload
from tusd_py.settings import Settings, SettingsError
from tusd_py.testing.limiter_suite import Uploads

CASES: list[tuple[dict[str, Any], LimitSettings]] = [
    ({}, LimitSettings()),
    ({"quota": 100}, LimitSettings(quota=100)),
    ({"max_uploads": 3, "max_uploads_per_owner": 2}, LimitSettings(max_uploads=3, max_uploads_per_owner=2)),
    ({"create_rate": 60}, LimitSettings(create_rate=60)),
    ({"reserve_space": True}, LimitSettings(min_free=0)),
    ({"min_free_space": 7}, LimitSettings(min_free=7)),
    ({"reserve_space": True, "min_free_space": 7}, LimitSettings(min_free=7)),
    ({"min_throughput": 1000, "allowed_types": "image/*", "allowed_extensions": "jpg"}, LimitSettings()),
]


@pytest.mark.parametrize(("given", "limits"), CASES)
def test_limits(given: dict[str, Any], limits: LimitSettings) -> None:
    assert limits_of(Settings(**given)) == limits


def test_nothing_is_kept_where_nothing_is_limited(tmp_path: Path) -> None:
    assert build_limiter(Settings(upload_dir=tmp_path), Uploads()) is None
    assert build_types(Settings(upload_dir=tmp_path)) is None
    assert not list(tmp_path.iterdir())


async def test_an_account_is_kept_in_the_upload_directory(tmp_path: Path) -> None:
    limiter = build_limiter(Settings(upload_dir=tmp_path / "data", quota=5), Uploads())
    assert limiter is not None
    with pytest.raises(QuotaExceeded):
        await limiter.admit(Upload(id="a", length=6), "")
    assert (tmp_path / "data" / ".tusd-py" / "account.db").exists()
    await limiter.close()


def test_types_that_are_allowed() -> None:
    gate = build_types(Settings(allowed_types="image/*", allowed_extensions="png"))
    assert gate is not None and gate.looks_at(Upload(id="a", length=5))
    with pytest.raises(TypeNotAllowed):
        gate.check_declared(Upload(id="a", length=5, metadata=Metadata({"filename": b"a.gif"})))


def test_types_need_something_that_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "magic", None)
    monkeypatch.setitem(sys.modules, "filetype", None)
    with pytest.raises(SettingsError, match=r"-allowed-types needs .* install tusd-py\[sniff\]"):
        build_types(Settings(allowed_types="image/*"))
    assert build_types(Settings(allowed_extensions="png")) is not None


BAD: dict[str, dict[str, Any]] = {
    "-quota is -1: expected a number from 1, or 0 for none": {"quota": -1},
    "-create-rate is -1: expected": {"create_rate": -1},
    "-min-free-space is 9223372036854775808: expected": {"min_free_space": 1 << 63},
    "-allowed-types: 'jpg' is no media type: expected": {"allowed_types": "image/*, jpg"},
    "-allowed-extensions: 'a/b' is no file extension: expected": {"allowed_extensions": "a/b"},
}


@pytest.mark.parametrize("message", BAD)
def test_what_makes_no_sense(message: str) -> None:
    values = BAD[message]
    with pytest.raises(SettingsError, match=re.escape(message)):
        Settings(**values)


def test_a_server_without_limits_loads_nothing_for_them() -> None:
    code = "import sys, tusd_py.assembly.limits; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tusd_py.limits.sqlite", "tusd_py.limits.sniffers", "magic", "filetype"} & set(done.stdout.split())
