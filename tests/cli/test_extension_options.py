"""Options of extensions from every source. Those of content-addressed storage stand for all; it is always installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.distributions import Install, install
from tusd_py.cli.goflags import FlagError
from tusd_py.cli.sources import load
from tusd_py.cli.usage import usage
from tusd_py.plugins import extension_settings
from tusd_py.settings import Setting, Settings, SettingsError

__all__ = ["install"]

# Flag: text, value, key in the table. One value other than the default for every option of an extension of ours.
SAMPLES: dict[str, tuple[str, Any, str]] = {
    "cas": ("replace", "replace", "mode"),
    "cas-level": ("0x9", 9, "level"),
    "cas-chunk-size": ("512KiB", 512 << 10, "chunk-size"),
    "cas-threads": ("2", 2, "threads"),
    "cas-gc-interval": ("10m", 600.0, "gc-interval"),
    "cas-gc-grace": ("0", 0.0, "gc-grace"),
}


def only(settings: Settings) -> dict[str, Any]:
    """What is set of the extension, which must be all that is set."""
    assert settings == Settings(extensions=settings.extensions)
    (values,) = settings.extensions.values()
    return dict(values)


def in_file(tmp_path: Path, content: str) -> str:
    file = tmp_path / "config.toml"
    file.write_text(content)
    return f"-config={file}"


@pytest.mark.parametrize("setting", extension_settings(), ids=lambda setting: setting.flag)
def test_every_option_from_every_source(setting: Setting, tmp_path: Path) -> None:
    text, value, key = SAMPLES[setting.flag]
    loaded = [
        load([f"-{setting.flag}={text}"], {}),
        load([], {f"TUSD_PY_{setting.flag.replace('-', '_').upper()}": text}),
        load([in_file(tmp_path, f'{setting.flag} = "{text}"')], {}),
        load([in_file(tmp_path, f'[cas]\n{key} = "{text}"')], {}),
    ]
    assert [only(settings) for settings in loaded] == [{setting.flag: value}] * 4
    assert setting.default != value


def test_numbers_of_toml(tmp_path: Path) -> None:
    settings = load([in_file(tmp_path, "port = 1\n[cas]\nlevel = 5\nchunk-size = 65_536\ngc-interval = 0\n")], {})
    assert settings.extensions == {"cas": {"cas-level": 5, "cas-chunk-size": 65536, "cas-gc-interval": 0.0}}
    assert settings.port == 1


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    file = in_file(tmp_path, '[cas]\nmode = "keep"\nlevel = 1\nthreads = 1\n')
    settings = load([file, "-cas=replace"], {"TUSD_PY_CAS": "off", "TUSD_PY_CAS_LEVEL": "2"})
    assert only(settings) == {"cas": "replace", "cas-level": 2, "cas-threads": 1}


@pytest.mark.parametrize("arguments", [["-cas"], ["--cas"], ["-cas=keep"], ["-cas=off", "-cas"], ["-cas", "-cas-level=3"]])
def test_the_flag_alone(arguments: list[str]) -> None:
    assert only(load(arguments, {}))["cas"] == "keep"


FLAGS = {
    "-cas=true": 'invalid value "true" for flag -cas: expected off, keep or replace',
    "-cas=": 'invalid value "" for flag -cas: expected off, keep or replace',
    "-cas-level=x": 'invalid value "x" for flag -cas-level: parse error: expected a whole number',
    "-cas-level": "flag needs an argument: -cas-level",
    "-cas-gc-grace=-1s": 'invalid value "-1s" for flag -cas-gc-grace: parse error: '
    "expected a duration such as 10s, 1h30m or 500ms",
    "-cas-lvl=1": "flag provided but not defined: -cas-lvl",
}


@pytest.mark.parametrize(("argument", "message"), FLAGS.items())
def test_wrong_flags(argument: str, message: str) -> None:
    with pytest.raises(FlagError) as caught:
        load([argument], {})
    assert str(caught.value) == message


ENVIRONMENTS = [
    ("TUSD_PY_CAS", "", 'invalid value "" for TUSD_PY_CAS: expected off, keep or replace'),
    ("TUSD_PY_CAS_LEVL", "3", "unknown environment variable TUSD_PY_CAS_LEVL: did you mean TUSD_PY_CAS_LEVEL?"),
    ("TUSD_PY_CAS_CHUNK_SIZE", "-1", "-cas-chunk-size is -1: expected a number of bytes that is not negative"),
]


@pytest.mark.parametrize(("name", "text", "message"), ENVIRONMENTS)
def test_wrong_variables(name: str, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load([], {name: text})
    assert str(caught.value) == message


FILES = {
    "[cas]\nlevl = 3": 'unknown key "levl" in [cas] of FILE: did you mean level?',
    "[cas]\nport = 3": 'unknown key "port" in [cas] of FILE',
    '[cas]\ncas = "keep"': 'unknown key "cas" in [cas] of FILE',
    "[cas]\ncas-level = 3": 'unknown key "cas-level" in [cas] of FILE: did you mean level?',
    "[cass]\nlevel = 3": 'unknown key "cass" in FILE: did you mean cas?',
    '[cas]\nlevel = "x"': "invalid value x for level in [cas] in FILE: parse error: expected a whole number",
    "[cas]\nmode = true": "invalid value true for mode in [cas] in FILE: expected a string",
    "[cas.level]\nx = 1": "invalid value {'x': 1} for level in [cas] in FILE: expected a whole number",
    "[[cas]]\nlevel = 1": "invalid value [{'level': 1}] for cas in FILE: expected a string",
    "[cas]\nchunk-size = -1": "-cas-chunk-size is -1: expected a number of bytes that is not negative",
    "cas-level = 3\n[cas]\nlevel = 3": "cas-level and level in [cas] in FILE are the same setting: expected one of them",
}


@pytest.mark.parametrize(("content", "message"), FILES.items())
def test_wrong_files(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load([in_file(tmp_path, content)], {})
    assert str(caught.value) == message.replace("FILE", str(tmp_path / "config.toml"))


def test_both_forms_of_the_mode_are_no_toml(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not valid TOML"):
        load([in_file(tmp_path, 'cas = "keep"\n[cas]\nmode = "keep"\n')], {})


BOOLEAN = """
    EXTENSION = Nothing()
    EXTENSION.options = (
        Option(name="nothing", kind="bool", default=False, help="Do nothing."),
        Option(name="nothing-much", kind="text", default="x", help="How much."),
    )
"""


def test_an_option_that_is_a_boolean(install: Install, tmp_path: Path) -> None:
    install("a-b", BOOLEAN)
    assert only(load(["-nothing", "-nothing-much", "a"], {})) == {"nothing": True, "nothing-much": "a"}
    assert only(load(["-nothing=false"], {})) == {"nothing": False}
    assert only(load([in_file(tmp_path, "[nothing]\nmode = true")], {})) == {"nothing": True}
    with pytest.raises(FlagError, match=r'^invalid boolean value "x" for -nothing: '):
        load(["-nothing=x"], {})


def test_a_table_of_an_extension_without_options(install: Install, tmp_path: Path) -> None:
    install("a-b")
    with pytest.raises(SettingsError, match=r'^unknown key "mode" in \[nothing\] of '):
        load([in_file(tmp_path, "[nothing]\nmode = true")], {})
    with pytest.raises(SettingsError, match=r'^unknown key "nothing" in '):
        load([in_file(tmp_path, "nothing = true")], {})
    with pytest.raises(SettingsError, match=r'^unknown key "nothin" in .*: did you mean nothing\?$'):
        load([in_file(tmp_path, "[nothin]\nx = 1")], {})


def test_help_has_a_group_for_each_extension(install: Install) -> None:
    install("a-b", BOOLEAN)
    assert (
        "\n\nOptions of the extension nothing:\n"
        "  -nothing\n      Do nothing. (default false)\n"
        "  -nothing-much string\n      How much. (default x)\n\n"
    ) in usage()
    assert "\n\nOptions of the extension cas:\n  -cas[=string]\n" in usage()
    assert " One of off, keep, replace. Alone it means keep. (default off)\n" in usage()
