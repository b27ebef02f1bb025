"""Hooks as users write them, for stock clients: a program in bash, one in Python, a web service, and Python in the server.

All do as files in their directory say: besides what tests/wire/hooking.py has, `hang-KIND` makes hooks of a kind wait for as
long as the file is there, and `answer-pre-finish-final` answers for finals alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.wire.hooking import Hooking, python_function, read, web_service
from tusd_py.protocol.hooks import HookType

BASH = """#!/bin/bash
kind=$(basename "$0") message=$(cat)
[[ $message ]] || exit 1  # the server was killed before it could tell
name=$(date +%s%N)-$$
printf %s "$message" > "told/.$name"
mv "told/.$name" "told/$name"
while [[ -e hang-$kind ]]; do sleep 0.02; done
if [[ -e fail-$kind ]]; then cat "fail-$kind"; exit 3; fi
if [[ $message == *'"IsFinal":true'* && -e answer-$kind-final ]]; then kind+=-final; fi
if [[ -e answer-$kind ]]; then cat "answer-$kind"; fi
"""

PYTHON = """#!{python}
import os, sys, time
from pathlib import Path
kind, message = os.path.basename(sys.argv[0]), sys.stdin.read()
if not message:
    sys.exit("the server was killed before it could tell")
name = f"{{time.time_ns()}}-{{os.getpid()}}"
Path("told", "." + name).write_text(message)
os.rename(f"told/.{{name}}", f"told/{{name}}")
while os.path.exists(f"hang-{{kind}}"):
    time.sleep(0.02)
def text(name):
    try:
        return Path(name).read_text()
    except FileNotFoundError:
        return None
if failure := text(f"fail-{{kind}}"):
    sys.exit(failure)
final = text(f"answer-{{kind}}-final") if '"IsFinal":true' in message else None
if answer := final or text(f"answer-{{kind}}"):
    print(answer)
"""


class ClientHooking(Hooking):
    """See the module."""

    def hang(self, kind: str) -> None:
        """Hooks of this kind do not answer from now on."""
        (self.directory / f"hang-{kind}").touch()

    def go_on(self, kind: str) -> None:
        (self.directory / f"hang-{kind}").unlink()

    def no_answer(self, kind: str) -> None:
        (self.directory / f"answer-{kind}").unlink()


@contextmanager
def _programs(directory: Path, source: str) -> Iterator[ClientHooking]:
    for kind in HookType:
        (directory / kind).write_text(source)
        (directory / kind).chmod(0o755)
    yield ClientHooking(directory, [f"-hooks-dir={directory}"])


@contextmanager
def _web(directory: Path) -> Iterator[ClientHooking]:
    with web_service(directory) as service:
        take = service.take

        def taken(message: bytes, kind: str) -> tuple[bool, bytes]:
            works, answer = take(message, kind)
            while (directory / f"hang-{kind}").exists():
                time.sleep(0.02)
            final = read(directory / f"answer-{kind}-final") if b'"IsFinal":true' in message else None
            return works, final or answer

        service.take = taken  # type: ignore[method-assign]
        yield ClientHooking(directory, service.arguments)


@contextmanager
def _module(directory: Path) -> Iterator[ClientHooking]:
    with python_function(directory) as hooking:
        yield ClientHooking(directory, hooking.arguments, hooking.environment)


WAYS: dict[str, Callable[[Path], AbstractContextManager[ClientHooking]]] = {
    "bash": lambda directory: _programs(directory, BASH),
    "python-program": lambda directory: _programs(directory, PYTHON.format(python=sys.executable)),
    "web": _web,
    "python": _module,
}
