"""From tusd's flags to a way of asking: what is enabled, which way wins, and what is said about settings that make no sense."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hooks.support import event
from tusd_py.assembly.hooks import build_hooks, describe_hooks
from tusd_py.cli.sources import load
from tusd_py.hook_settings import enabled_hooks
from tusd_py.ports.observer import NO_OBSERVER
from tusd_py.protocol.hooks import DEFAULT_TYPES, HookAnswer, HookType
from tusd_py.settings import Settings, SettingsError


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        ("", frozenset(HookType)),
        ("pre-create", {HookType.PRE_CREATE}),
        ("post-finish,pre-finish,post-finish", {HookType.PRE_FINISH, HookType.POST_FINISH}),
        (Settings().hooks_enabled_events, DEFAULT_TYPES),
    ],
)
def test_hooks_are_enabled_by_name(names: str, kinds: frozenset[HookType]) -> None:
    assert enabled_hooks(names) == kinds


@pytest.mark.parametrize("names", [" ", "pre-create, post-create", "pre-create,", ",", "Pre-Create", "pre-create,post-party"])
def test_other_names_are_refused_in_tusds_words(names: str) -> None:
    with pytest.raises(SettingsError, match=r"^Unknown hook event type in -hooks-enabled-events flag: '.*expected names"):
        load([f"-hooks-enabled-events={names}"], {})


OBJECTIONS = {
    "-hooks-plugin=p": "-hooks-plugin is not supported: its protocol is of Go programs for Go programs; "
    "use -hooks-python, -hooks-grpc, -hooks-http or -hooks-dir",
    "-hooks-timeout=0": "-hooks-timeout is 0, which leaves hooks no time at all: expected a duration such as 5m",
    "-hooks-http=localhost:80": "-hooks-http is 'localhost:80': expected a URL such as http://localhost:8000/hooks",
    "-hooks-http=http://": "-hooks-http is 'http://': expected a URL such as http://localhost:8000/hooks",
    "-hooks-http=http:///x": "-hooks-http is 'http:///x': expected a URL such as http://localhost:8000/hooks",
    "-hooks-http=http://a b": "-hooks-http is 'http://a b': expected a URL such as http://localhost:8000/hooks",
    "-hooks-http=ftp://h/": "-hooks-http is 'ftp://h/': expected a URL such as http://localhost:8000/hooks",
    "-hooks-http-timeout=0": "-hooks-http-timeout is 0, which leaves hooks no time at all: expected a duration such as 15s",
    "-hooks-http-size-limit=0": "-hooks-http-size-limit is 0: expected a number of bytes from 1",
    "-hooks-secret-file=s": "-hooks-secret-file signs what is sent to -hooks-http, which is not given",
    "-hooks-grpc-secure": "-hooks-grpc-secure is given without -hooks-grpc-server-tls-certificate: its file is needed",
    "-hooks-grpc-client-tls-key=k": "-hooks-grpc-client-tls-certificate and -hooks-grpc-client-tls-key belong together: "
    "expected both or neither",
    "-progress-hooks-interval=-1s": None,
    "-hooks-http-backoff=-1s": None,
    "-hooks-grpc-backoff=-1s": None,
}


@pytest.mark.parametrize(("argument", "message"), OBJECTIONS.items())
def test_what_makes_no_sense_is_said_in_a_sentence(argument: str, message: str | None) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        load([argument], {})
    assert message is None or str(caught.value) == message


def test_relative_directories_stay_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(["-hooks-dir=hooks"], {}).hooks_dir == tmp_path / "hooks"
    assert load(["-hooks-dir="], {}).hooks_dir is None


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "hooks").mkdir()
    (tmp_path / "secret").write_text("0123456789abcdef\n")
    (tmp_path / "short").write_text("0123456789")
    (tmp_path / "certificate").write_text("a certificate")
    (tmp_path / "answers.py").write_text("def answer(event): ...\n")
    return tmp_path


ALL_WAYS = {
    "-hooks-dir={}/hooks": "CommandHooks",
    "-hooks-http=http://user:secret@localhost:1/": "WebHooks",
    "-hooks-grpc=localhost:1": "GrpcHooks",
    "-hooks-python=tests.hooks.support:event": "PythonHooks",
}


@pytest.mark.parametrize("first", range(4))
def test_of_several_ways_the_first_in_tusds_order_wins(first: int, files: Path) -> None:
    arguments = [argument.format(files) for argument in list(ALL_WAYS)[first:]]
    settings = load(arguments, {})
    assert list(ALL_WAYS.values())[first] in repr(build_hooks(settings, NO_OBSERVER))
    assert arguments[0].partition("=")[2].replace("user:secret@", "") in describe_hooks(settings)[0]


def test_without_any_there_are_none() -> None:
    assert build_hooks(Settings(), NO_OBSERVER) is None
    assert describe_hooks(Settings()) == []


def test_what_is_enabled_is_told_at_start() -> None:
    assert describe_hooks(load(["-hooks-http=http://h", "-hooks-enabled-events=post-finish,pre-create"], {})) == [
        "Using 'http://h' as the endpoint for hooks",
        "Enabled hook events: post-finish, pre-create",
    ]


def test_only_what_is_enabled_is_asked(files: Path) -> None:
    hooks = build_hooks(load([f"-hooks-dir={files}/hooks", "-hooks-enabled-events=post-finish"], {}), NO_OBSERVER)
    assert hooks is not None
    assert hooks.types == {HookType.POST_FINISH}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-hooks-dir={}/nowhere"], "-hooks-dir is {}/nowhere, which is no directory"),
        (["-hooks-dir={}/secret"], "-hooks-dir is {}/secret, which is no directory"),
        (["-hooks-http=http://h", "-hooks-secret-file={}/nowhere"], "which can't be read: No such file or directory"),
        (["-hooks-http=http://h", "-hooks-secret-file={}/short"], "the secret has 10 bytes: expected at least 16"),
        (
            ["-hooks-grpc=h:1", "-hooks-grpc-secure", "-hooks-grpc-server-tls-certificate={}/nowhere"],
            "-hooks-grpc-server-tls-certificate is {}/nowhere, which can't be read",
        ),
        (
            [
                *("-hooks-grpc=h:1", "-hooks-grpc-secure", "-hooks-grpc-server-tls-certificate={}/certificate"),
                *("-hooks-grpc-client-tls-certificate={}/certificate", "-hooks-grpc-client-tls-key={}/nowhere"),
            ],
            "-hooks-grpc-client-tls-key is {}/nowhere, which can't be read",
        ),
        (["-hooks-python=nothing"], "-hooks-python: 'nothing' names no Python object"),
        (["-hooks-python=tests.hooks.support:UPLOAD"], "-hooks-python: .* answers no hook"),
    ],
)
def test_what_cannot_be_used_is_said_at_start(arguments: list[str], message: str, files: Path) -> None:
    with pytest.raises(SettingsError, match=message.format(files)):
        build_hooks(load([argument.format(files) for argument in arguments], {}), NO_OBSERVER)


def test_every_setting_of_web_and_grpc_hooks_is_used(files: Path) -> None:
    web = build_hooks(
        load(
            [
                *("-hooks-http=http://h", "-hooks-http-retry=5", "-hooks-http-backoff=2s", "-hooks-http-timeout=3s"),
                *("-hooks-http-size-limit=7", "-hooks-http-skip-verify", "-hooks-http-forward-headers=A,b"),
                f"-hooks-secret-file={files}/secret",
            ],
            {},
        ),
        NO_OBSERVER,
    )
    state = vars(web._hooks)  # type: ignore[union-attr]
    assert [state[f"_{name}"] for name in ("attempts", "backoff", "timeout", "size_limit", "skip_verify")] == [5, 2, 3, 7, True]
    assert state["_forward"] == [("A", "A"), ("b", "B")]
    assert state["_secret"] == b"0123456789abcdef"
    grpc = build_hooks(
        load(
            [
                *("-hooks-grpc=h:1", "-hooks-grpc-retry=5", "-hooks-grpc-backoff=2s", "-hooks-timeout=3s"),
                *("-hooks-grpc-forward-headers=A,b", "-hooks-grpc-secure"),
                f"-hooks-grpc-server-tls-certificate={files}/certificate",
                f"-hooks-grpc-client-tls-certificate={files}/certificate",
                f"-hooks-grpc-client-tls-key={files}/certificate",
            ],
            {},
        ),
        NO_OBSERVER,
    )
    state = vars(grpc._hooks)  # type: ignore[union-attr]
    assert [state[f"_{name}"] for name in ("target", "attempts", "backoff", "timeout")] == ["h:1", 5, 2, 3]
    assert state["_forward"] == [("a", "A"), ("b", "B")]
    assert (state["_root_certificates"], state["_client_pair"]) == (b"a certificate", (b"a certificate", b"a certificate"))


async def test_hooks_of_a_module_in_the_working_directory(
    files: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    name = f"answers_{abs(hash(request.node.name))}"
    (files / "answers.py").rename(files / f"{name}.py")
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "path", list(sys.path))
    hooks = build_hooks(load([f"-hooks-python={name}:answer", "-hooks-timeout=30s"], {}), NO_OBSERVER)
    assert hooks is not None
    assert await hooks.invoke(event()) == HookAnswer()
    await hooks.close()


WITHOUT_GRPC = """
import sys
sys.modules["grpc"] = None
from tusd_py.cli.sources import load
try:
    load(["-hooks-grpc=h:1"], {})
except ValueError as error:
    print(error)
"""


def test_a_missing_extra_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_GRPC], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "-hooks-grpc needs packages that are not installed: install tusd-py[grpc]\n"


IMPORTED = """
import sys
import tusd_py.assembly.hooks, tusd_py.cli
print([name for name in ("aiohttp", "grpc", "google.protobuf") if name in sys.modules])
"""


def test_clients_are_not_imported_unless_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
