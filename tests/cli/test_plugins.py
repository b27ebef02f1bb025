"""Extensions are found by their entry points; one that can't be used is told with the distribution that it comes from."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli.distributions import Install, install
from tusd_py.cli.known import known_settings
from tusd_py.plugins import configured_extensions, extension_settings, extension_values, extensions
from tusd_py.ports.extension import Option
from tusd_py.settings import Settings, SettingsError

__all__ = ["install"]

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_installed_is_found_in_the_order_of_names(install: Install) -> None:
    install("a-b", "EXTENSION = Nothing()", entry="a")
    assert list(extensions()) == ["nothing", "cas"]
    assert "nothing" in dict.fromkeys(extension.name for extension, _ in configured_extensions(Settings()))


def test_without_any_the_server_is_as_it_was() -> None:
    """From a folder of sources, where there is no distribution at all."""
    code = (
        f"import sys; sys.path = [{str(ROOT)!r}, *(path for path in sys.path if not path.endswith('-packages'))];"
        "from tusd_py.cli.usage import usage; from tusd_py.plugins import extensions; print(len(extensions()), usage())"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("0 Usage of tusd-py:") and "Options of the extension" not in done.stdout


def test_finding_extensions_imports_nothing_that_they_need_to_work() -> None:
    heavy = ["asyncio", "sqlite3", "sqlite_utils", "blake3", "zstandard", "pyfastcdc", "typer", "rich", "multiprocessing"]
    code = f"""import sys
from tusd_py.plugins import extensions
print(list(extensions()), sorted(set({heavy}) & set(sys.modules)))
print(sorted(name for name in sys.modules if name.startswith("tusd_py_cas")))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "['cas'] []\n['tusd_py_cas', 'tusd_py_cas.options']\n"


BROKEN = {
    "raise RuntimeError('two\\nlines')": "RuntimeError: two lines",
    "import no_such_package": "ModuleNotFoundError: No module named 'no_such_package'",
    "": "AttributeError: module 'a_b' has no attribute 'EXTENSION'",
    "EXTENSION = None": "AttributeError: 'NoneType' object has no attribute 'options'",
    "EXTENSION = Nothing(); EXTENSION.name = 'No-Name'": "TypeError: a_b:EXTENSION is no extension: "
    "expected what tusd_py.ports.extension.Extension says",
    "EXTENSION = Nothing(); EXTENSION.open = None": "TypeError: a_b:EXTENSION is no extension: "
    "expected what tusd_py.ports.extension.Extension says",
    "EXTENSION = Nothing(); EXTENSION.options = ['-x']": "TypeError: a_b:EXTENSION is no extension: "
    "expected what tusd_py.ports.extension.Extension says",
    "EXTENSION = Nothing(); EXTENSION.commands = {'x': print}": "TypeError: a_b:EXTENSION is no extension: "
    "expected what tusd_py.ports.extension.Extension says",
    "EXTENSION = Nothing(); EXTENSION.name = 'host'": "the server has a setting of its name, -host",
}


@pytest.mark.parametrize(("code", "problem"), BROKEN.items(), ids=range(len(BROKEN)))
def test_an_extension_that_cannot_be_used(install: Install, code: str, problem: str) -> None:
    install("a-b", code)
    with pytest.raises(SettingsError) as caught:
        extensions()
    assert str(caught.value) == f"the extension 'nothing' of a-b cannot be used: {problem}"


OPTIONS = {
    'Option(name="other", kind="int", default=0, help="")': "its option 'other' is not named nothing or nothing-...",
    'Option(name="nothingness", kind="int", default=0, help="")': "its option 'nothingness' is not named "
    "nothing or nothing-...",
    'Option(name="nothing-", kind="int", default=0, help="")': "its option 'nothing-' is not named nothing or nothing-...",
    'Option(name="nothing-a_b", kind="int", default=0, help="")': "its option 'nothing-a_b' is not named "
    "nothing or nothing-...",
    'Option(name="nothing", kind="int", default=0, help=""), Option(name="nothing-mode", kind="int", default=0, help="")': (
        "its option -nothing-mode is there twice, or two are called 'mode' in the configuration file"
    ),
    'Option(name="nothing", kind="int", default="0", help="")': "the default of its option -nothing is '0': "
    "expected a whole number below 2^63",
    'Option(name="nothing", kind="octal", default=0, help="")': "its option -nothing is of kind 'octal', which there is not",
    'Option(name="nothing", kind="int", default=0, bare="1", help="")': "its option -nothing is of kind 'int', "
    "which has neither choices nor a meaning alone",
    'Option(name="nothing", kind="choice", default="a", help="")': "its option -nothing has no choices",
    'Option(name="nothing", kind="choice", default="a", choices=("a",), bare="b", help="")': (
        "its option -nothing would mean 'b' alone: expected one of a"
    ),
    'Option(name="nothing", kind="choice", default="b", choices=("a",), help="")': (
        "the default of its option -nothing is 'b': expected one of a"
    ),
}


@pytest.mark.parametrize(("options", "problem"), OPTIONS.items(), ids=range(len(OPTIONS)))
def test_an_option_that_makes_no_sense(install: Install, options: str, problem: str) -> None:
    install("a-b", f"EXTENSION = Nothing(); EXTENSION.options = ({options},)")
    with pytest.raises(SettingsError) as caught:
        extensions()
    assert str(caught.value) == f"the extension 'nothing' of a-b cannot be used: {problem}"


def test_an_option_with_the_name_of_a_setting(install: Install) -> None:
    install("a-b", """
        EXTENSION = Nothing()
        EXTENSION.name = "hooks"
        EXTENSION.options = (Option(name="hooks-dir", kind="path", default=None, help=""),)
    """)  # fmt: skip
    with pytest.raises(SettingsError, match=r"of a-b cannot be used: the server has a setting -hooks-dir too$"):
        extensions()


@pytest.mark.parametrize("flag", ["s3-bucket", "config", "version", "help", "h"])
def test_an_option_with_the_name_of_another_flag(install: Install, flag: str) -> None:
    """Flags that are no settings: those that are refused, and those about the command itself."""
    install("a-b", f"""
        EXTENSION = Nothing()
        EXTENSION.name = "{flag.partition("-")[0]}"
        EXTENSION.options = (Option(name="{flag}", kind="text", default="", help=""),)
    """)  # fmt: skip
    with pytest.raises(
        SettingsError, match=f"^the extension 'nothing' of a-b cannot be used: the server has a flag -{flag} too$"
    ):
        known_settings()


def test_two_extensions_of_one_name(install: Install) -> None:
    install("a-b")
    install("a-c")
    with pytest.raises(SettingsError) as caught:
        extensions()
    assert str(caught.value) == "a-b and a-c both have an extension 'nothing': expected one of them to be uninstalled"


def test_two_extensions_with_one_subcommand(install: Install) -> None:
    install("a-b", "EXTENSION = Nothing(); EXTENSION.commands = {'x': Command(module='a', help='.')}")
    install("a-c", "EXTENSION = Nothing(); EXTENSION.name = 'c'; EXTENSION.commands = {'x': Command(module='a', help='.')}")
    with pytest.raises(SettingsError) as caught:
        extensions()
    assert str(caught.value) == "a-b and a-c both have a subcommand 'x': expected one of them to be uninstalled"


# Values


def cas(**values: Any) -> dict[str, Any]:
    given = {f"cas_{name}".removesuffix("_mode").replace("_", "-"): value for name, value in values.items()}
    return dict(extension_values(Settings(extensions={"cas": given}), extensions()["cas"]))


def test_what_is_not_given_has_its_default() -> None:
    defaults = {setting.flag: setting.default for setting in extension_settings() if setting.extension == "cas"}
    assert cas() == defaults
    assert cas(mode="keep") == defaults | {"cas": "keep"}
    assert dict(configured_extensions(Settings())[0][1]) == defaults


def test_durations_are_floats() -> None:
    assert type(cas(gc_grace=0)["cas-gc-grace"]) is float


WRONG = [
    ({"mode": "on"}, "-cas is 'on': expected one of off, keep, replace"),
    ({"mode": True}, "-cas is True: expected one of off, keep, replace"),
    ({"level": "3"}, "-cas-level is '3': expected a whole number below 2^63"),
    ({"level": True}, "-cas-level is True: expected a whole number below 2^63"),
    ({"level": 1 << 63}, f"-cas-level is {1 << 63}: expected a whole number below 2^63"),
    ({"chunk_size": -1}, "-cas-chunk-size is -1: expected a number of bytes that is not negative"),
    ({"gc_grace": -1}, "-cas-gc-grace is -1: expected a number of seconds that is not negative"),
    ({"gc_grace": float("nan")}, "-cas-gc-grace is nan: expected a number of seconds that is not negative"),
    ({"gc_grace": float("inf")}, "-cas-gc-grace is inf: expected a number of seconds that is not negative"),
    ({"gc_grace": "1h"}, "-cas-gc-grace is '1h': expected a number of seconds that is not negative"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_values_of_the_wrong_kind(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        cas(**values)
    assert str(caught.value) == message


KINDS: list[tuple[Option, Any, Any]] = [
    (Option(name="nothing", kind="bool", default=False, help=""), True, 1),
    (Option(name="nothing", kind="text", default="", help=""), "x", b"x"),
    (Option(name="nothing", kind="path", default=None, help=""), Path("/x"), "/x"),
]


@pytest.mark.parametrize(("option", "good", "bad"), KINDS, ids=lambda value: getattr(value, "kind", ""))
def test_values_of_other_kinds(install: Install, option: Option, good: Any, bad: Any) -> None:
    install("a-b", f"from pathlib import Path\nEXTENSION = Nothing(); EXTENSION.options = ({option!r},)")
    extension = extensions()["nothing"]
    assert extension_values(Settings(extensions={"nothing": {"nothing": good}}), extension) == {"nothing": good}
    with pytest.raises(SettingsError, match=r"^-nothing is "):
        extension_values(Settings(extensions={"nothing": {"nothing": bad}}), extension)


def test_a_path_is_absolute(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    option = 'Option(name="nothing", kind="path", default=Path("d"), help="")'
    install("a-b", f"from pathlib import Path\nEXTENSION = Nothing(); EXTENSION.options = ({option},)")
    monkeypatch.chdir(tmp_path)
    extension = extensions()["nothing"]
    assert extension_values(Settings(), extension) == {"nothing": tmp_path / "d"}
    assert extension_values(Settings(extensions={"nothing": {"nothing": Path("e")}}), extension) == {"nothing": tmp_path / "e"}


def test_names_that_there_are_not(install: Install) -> None:
    with pytest.raises(
        SettingsError, match=r"^the extension cas has no option 'level': expected cas, cas-level, cas-chunk-size, "
    ):
        configured_extensions(Settings(extensions={"cas": {"level": 3}}))
    with pytest.raises(SettingsError, match=r"^there is no extension 'cass': expected one of cas$"):
        configured_extensions(Settings(extensions={"cass": {}}))
    install("a-b")
    with pytest.raises(
        SettingsError, match=r"^the extension nothing has no option 'x': expected none, since it has no options$"
    ):
        configured_extensions(Settings(extensions={"nothing": {"x": 3}}))


def test_settings_hold_what_they_were_given() -> None:
    given = {"cas": {"cas": "keep"}}
    settings = Settings(extensions=given)
    given["cas"]["cas"] = "replace"
    assert settings.extensions == {"cas": {"cas": "keep"}}
    assert hash(settings) == hash(Settings()) and settings != Settings()
    assert replace(settings, port=1).extensions == settings.extensions


def test_options_that_are_no_mapping() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(extensions={"cas": "keep"})  # type: ignore[dict-item]
    assert str(caught.value) == "the options of the extension cas are 'keep': expected values by the options' names"
