"""The reference names every setting and every flag of tusd, with the values that are in the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tusd_py.cli.uncovered import UNCOVERED
from tusd_py.cli.values import show
from tusd_py.plugins import extension_settings
from tusd_py.settings import Setting, described

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def settings_row(setting: Setting) -> str:
    default = show(setting, setting.default)
    values = ", ".join(f"`{choice}`" for choice in setting.choices) or setting.kind
    return f"| `-{setting.flag}` | {values} | {f'`{default}`' if default else 'none'} | {setting.help} |"


@pytest.mark.parametrize("setting", described() + extension_settings(), ids=lambda setting: setting.flag)
def test_every_setting_is_described(setting: Setting) -> None:
    assert setting.help.endswith(".") and setting.group
    assert settings_row(setting) in (REFERENCE / "settings.md").read_text().splitlines()


@pytest.mark.parametrize("flag", [*(one.tusd for one in described() if one.tusd), *UNCOVERED])
def test_every_flag_of_tusd_has_one_line(flag: str) -> None:
    rows = [line for line in (REFERENCE / "flags.md").read_text().splitlines() if line.startswith(f"| `-{flag}` |")]
    assert len(rows) == 1
    verdict = rows[0].split("|")[2].strip()
    expected = {"same", "better", "no effect", "refused"}
    if flag in UNCOVERED:
        expected = {"refused" if UNCOVERED[flag] else "no effect"}
    assert verdict in expected
