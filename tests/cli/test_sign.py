"""`tusd-py sign`: intents and secret files from the command line."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tusd_py.authorization.intents import Intent, read_intent, read_keys
from tusd_py.cli.sign import main


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    assert main(["--new-secret", str(tmp_path / "secret")]) == 0
    return tmp_path / "secret"


def read(token: str, secret: Path) -> Intent:
    return read_intent(token, read_keys(secret), time.time())


def test_a_token_alone(secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--secret", str(secret)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    intent = read(line, secret)
    assert (intent.owner, intent.max_size, intent.metadata, intent.types, intent.reusable) == (None, None, {}, (), False)


def test_every_bound(secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bounds = ["--owner", "alice", "--max-size=1_000", "--metadata", "folder=a=b", "--metadata=empty=", "--type=image/*"]
    assert main(["--secret", str(secret), *bounds, "--type", "TEXT/plain", "--expires-in=24h", "--reusable"]) == 0
    intent = read(capsys.readouterr().out.strip(), secret)
    assert (intent.owner, intent.max_size, intent.reusable) == ("alice", 1000, True)
    assert (intent.metadata, intent.types) == ({"folder": "a=b", "empty": ""}, ("image/*", "text/plain"))


def test_a_url(secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--secret", str(secret), "--url=https://h/files/"]) == 0
    url = urlsplit(capsys.readouterr().out.strip())
    assert (url.netloc, url.path) == ("h", "/files/")
    read(url.query.removeprefix("intent="), secret)


def test_json(secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--secret", str(secret), "--url=https://h/files/", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["url"] == f"https://h/files/?intent={said['intent']}"
    assert said["expires"] == read(said["intent"], secret).expires
    assert main(["--secret", str(secret), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["url"] is None


def test_a_new_secret_is_its_owners_alone_and_never_overwrites(secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    before = secret.read_bytes()
    assert main(["--new-secret", str(secret)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert secret.read_bytes() == before
    assert main(["--new-secret", str(secret / "below")]) == 1
    assert "cannot make" in capsys.readouterr().err


MISUSES = [
    ([], "one of the arguments --secret --new-secret is required"),
    (["--secret={secret}", "--new-secret=x"], "not allowed with"),
    (["--secret={secret}", "--max-size=big"], "'big': parse error: expected a whole number"),
    (["--secret={secret}", "--max-size=-1"], "expected a number of bytes"),
    (["--secret={secret}", "--expires-in=soon"], "'soon': parse error: expected a duration"),
    (["--secret={secret}", "--expires-in=0"], "would expire in 0.0 s"),
    (["--secret={secret}", "--metadata=folder"], "'folder': expected KEY=VALUE"),
    (["--secret={secret}", "--metadata==x"], "'=x': expected KEY=VALUE"),
    (["--secret={secret}", "--metadata=a b=x"], "without blanks"),
    (["--secret={secret}", "--type=image"], "expected types"),
    (["--secret={secret}", "--owner="], "expected an owner"),
    (["--secret={secret}", "--url=https://h/#x"], "has a fragment"),
    (["--secret={secret}", "--own=alice"], "unrecognized arguments"),
    (["--secret={secret}", "alice"], "unrecognized arguments"),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISUSES)
def test_what_makes_no_sense_is_told(
    secret: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.format(secret=secret) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.out == ""


@pytest.mark.parametrize(("content", "sentence"), [(None, "cannot read"), ("short", "line 1: the key has 5 characters")])
def test_a_secret_file_that_can_not_be_used_is_told(
    tmp_path: Path, content: str | None, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "other").write_text(content)
    assert main(["--secret", str(tmp_path / "other")]) == 1
    assert sentence in capsys.readouterr().err


def test_it_is_a_subcommand(secret: Path) -> None:
    command = [sys.executable, "-m", "tusd_py", "sign", "--secret", str(secret), "--owner", "alice"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert read(done.stdout.strip(), secret).owner == "alice"


def test_it_starts_without_the_server(secret: Path) -> None:
    script = (
        f"import sys; from tusd_py.cli.sign import main; main(['--secret', {str(secret)!r}])\n"
        "print(sorted({'uvicorn', 'starlette', 'jwt', 'cryptography'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[1] == "[]"
