"""The code in the documentation does what the text says, as it stands there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.authorization.support import allowed, denied, request, secret_file
from tusd_py.authorization import capabilities, credentials, intents, jwt, keys, watched
from tusd_py.authorization.intents import read_intent, read_keys
from tusd_py.authorization.python import PythonAuthorizer
from tusd_py.authorization.tokens import parse_tokens
from tusd_py.ports.authorization import Action

DOCS = Path(__file__).resolve().parents[2] / "docs"
REFERENCE, HOW_TO = DOCS / "reference" / "authorization.md", DOCS / "how-to" / "authorize.md"


def block(page: Path, name: str) -> str:
    """The code block that begins with a comment which names this file."""
    found = re.search(rf"^```\w+\n((?:#|//) {re.escape(name)}\n.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no block {name}"
    return found[1]


@pytest.mark.parametrize("name", ["sign_by_hand.py", "sign_by_hand.mjs"])
def test_signing_by_hand(name: str, tmp_path: Path) -> None:
    program = sys.executable if name.endswith(".py") else shutil.which("node")
    if program is None:
        pytest.skip("Node.js is not installed")
    secret = secret_file(tmp_path / "secret")
    (tmp_path / name).write_text(block(REFERENCE, name))
    done = subprocess.run(
        [program, *(["-W", "ignore"] if name.endswith(".py") else []), name, str(secret)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    intent = read_intent(done.stdout.strip(), read_keys(secret), time.time())
    assert (intent.owner, intent.max_size, intent.reusable) == ("alice", 10**9, False)


async def test_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = secret_file(tmp_path / "secret")
    monkeypatch.setenv("INTENTS_KEY", str(secret))
    namespace: dict[str, Any] = {"__name__": "intents_backend"}
    exec(compile(block(HOW_TO, "intents_backend.py"), "intents_backend.py", "exec"), namespace)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(namespace["app"]), base_url="http://backend") as client:
        answer = await client.post("/uploads", json={"name": "ä.txt", "size": 5})
        refused = await client.post("/uploads", json={"name": "a", "size": 1 << 50})
    assert refused.status_code == 413
    url = urlsplit(answer.json()["url"])
    intent = read_intent(url.query.removeprefix("intent="), read_keys(secret), time.time())
    assert (intent.owner, intent.max_size, intent.metadata) == ("alice", 5, {"filename": "ä.txt"})


async def test_the_function(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {}
    exec(compile(block(HOW_TO, "my_authorizer.py"), "my_authorizer.py", "exec"), namespace)
    authorizer = PythonAuthorizer(namespace["authorize"])
    scanner = replace(request(), remote_addr="10.0.0.7:1234")
    assert allowed(await authorizer.recognize(scanner, Action.CREATE, None)).owner == "scanner"
    denied(await authorizer.recognize(scanner, Action.TERMINATE, None), 403)
    assert await authorizer.recognize(request(), Action.CREATE, None) is None


@pytest.mark.parametrize("page", [REFERENCE, HOW_TO], ids=lambda page: page.name)
def test_the_examples_of_token_files_can_be_read(page: Path) -> None:
    lines = re.findall(r"^    ((?:sha256:)?[\w+/]{24,64} (?:alice|bob|root|backup|admin)\b.*)$", page.read_text(), re.MULTILINE)
    assert len(parse_tokens("\n".join(lines).encode())) == len(lines) >= 2


def test_the_command_line_of_sign(tmp_path: Path) -> None:
    secret = secret_file(tmp_path / "secret")
    (line,) = re.findall(r"^ +tusd-py (sign --secret .*)$", HOW_TO.read_text(), re.MULTILINE)
    command = [sys.executable, "-m", "tusd_py", *line.replace("/etc/tusd-py/intents.key", str(secret)).split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=os.environ)
    assert done.stdout.startswith("https://uploads.example.org/files/?intent=ti1.")


def test_limits_are_those_of_the_code() -> None:
    text = " ".join(REFERENCE.read_text().replace("\n", " ").split())
    for value in (
        f"at most {intents.MAX_INTENT} characters",
        f"{intents.MAX_LIFETIME / 86400:.0f} days",
        f"| credential | {credentials.MAX_CREDENTIAL:_} characters".replace("_", " "),
        f"file of authorisation | {watched.MAX_FILE >> 20} MiB",
        f"1 to {keys.MAX_KEYS} keys",
        f"{keys.MIN_KEY} or more printable ASCII characters",
        f"clocks that differ (intents, JWTs) | {intents.CLOCK_SKEW:.0f} s",
        f"valid until {jwt.LEEWAY:.0f} s after it",
        json.dumps(intents.PREFIX),
        json.dumps(intents.CONTEXT),
        json.dumps(capabilities.PREFIX),
        json.dumps(capabilities.CONTEXT),
    ):
        assert value in text, value
    assert all(f"| `{action}` |" in text for action in Action)
    assert all(f"| `{name}` |" in text for name in intents._FIELDS)
