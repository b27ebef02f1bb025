"""The examples in docs/how-to/hooks.md do what the page says."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import pytest
import uvicorn

from tests.hooks.support import ALL, event, until
from tusd_py.hooks.command import CommandHooks
from tusd_py.hooks.python import PythonHooks
from tusd_py.hooks.signature import parse_secret
from tusd_py.hooks.webhook import WebHooks
from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.hooks import HookAnswer, HookType
from tusd_py.protocol.metadata import parse_metadata

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "hooks.md").read_text()


def example(name: str) -> str:
    (code,) = re.findall(rf"^```python\n(# {re.escape(name)}\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(code)


def module(name: str, directory: Path) -> ModuleType:
    path = directory / name
    path.write_text(example(name))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


async def test_the_program(tmp_path: Path) -> None:
    path = tmp_path / HookType.PRE_CREATE
    path.write_text(f"#!{sys.executable}\n{example('pre-create.py')}")
    path.chmod(0o755)
    hooks = CommandHooks(tmp_path, ALL, timeout=60)
    answer = await hooks.invoke(event(HookType.PRE_CREATE, metadata=parse_metadata("filename QS5UWFQ=")))
    assert answer.changes.metadata == {"filename": b"a.txt"}


@asynccontextmanager
async def serving(app: object) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))  # type: ignore[arg-type]
        task = asyncio.create_task(server._serve(sockets=[listener]))
        await until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hooks"
        server.should_exit = True
        await task


async def test_the_web_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text("a secret that nobody knows\n")
    monkeypatch.setenv("HOOKS_KEY", str(tmp_path / "key"))
    app = module("hook_service.py", tmp_path).app
    async with serving(app) as url:
        good = WebHooks(url, ALL, secret=parse_secret((tmp_path / "key").read_bytes()))
        bad = WebHooks(url, ALL, secret=b"another secret that is wrong")
        assert await good.invoke(event(HookType.PRE_CREATE)) == HookAnswer()
        answer = await good.invoke(event(HookType.PRE_CREATE, length=11 * 1024**3))
        assert (answer.reject_upload, answer.response.status) == (True, 413)
        for _ in range(2):
            await good.invoke(event(event_id="e1"))
        with pytest.raises(HookFailure, match=r"\(401\): .*not of this message and secret"):
            await bad.invoke(event())
        await good.close()
        await bad.close()
    assert capsys.readouterr().out == "finished: /abs/dir/cd8e\n", "once, though it was told twice"


async def test_the_python_hooks(tmp_path: Path) -> None:
    hooks = PythonHooks(module("our_hooks.py", tmp_path).Hooks, ALL, timeout=60)
    assert hooks.types == {HookType.PRE_CREATE, HookType.PRE_FINISH}
    answer = await hooks.invoke(event(HookType.PRE_CREATE, metadata=parse_metadata("filename QS5UWFQ=,x eQ==")))
    assert answer.changes.metadata == {"filename": b"a.txt", "x": b"y"}
    answer = await hooks.invoke(event(HookType.PRE_CREATE, metadata=parse_metadata("")))
    assert (answer.reject_upload, answer.response.status) == (True, 422)
    for content, rejected in ((b"%PDF-1.7", False), (b"\x89PNG", True)):
        (tmp_path / "bytes").write_bytes(content)
        answer = await hooks.invoke(event(HookType.PRE_FINISH, storage={"Path": str(tmp_path / "bytes")}))
        assert answer.reject_upload is rejected
