"""What `from tusd_py import ...` gives, and what it costs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import tusd_py
from tests.asgi.support import TUS, call
from tusd_py import HookAnswer, HookEvent, HookType, HttpRequest, Settings, Upload, allow, create_app, deny
from tusd_py.ports.authorization import Action, Decision

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "embedding-api.md"


def run(code: str) -> Any:
    """What Python prints as JSON, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_the_public_names() -> None:
    assert sorted(tusd_py.__all__) == [
        "Action",
        "Authorizer",
        "Decision",
        "Durability",
        "FileInfoChanges",
        "HookAnswer",
        "HookEvent",
        "HookFailure",
        "HookType",
        "Hooks",
        "HttpRequest",
        "HttpResponse",
        "Metadata",
        "Settings",
        "SettingsError",
        "TusApp",
        "Upload",
        "__version__",
        "allow",
        "create_app",
        "create_metrics",
        "deny",
    ]
    assert dir(tusd_py) == sorted(tusd_py.__all__)


@pytest.mark.parametrize("name", tusd_py.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    found = getattr(tusd_py, name)
    assert name == "__version__" or found.__name__ == name
    table = REFERENCE.read_text().split("## What can be imported from tusd_py")[1].split("## create_app")[0]
    assert re.search(rf"^\|.*`{name}`.*\|", table, re.MULTILINE)


def test_what_type_checkers_see_is_what_there_is() -> None:
    source = Path(tusd_py.__file__).read_text()
    declared = re.findall(r"^    from (\S+) import (.+)$", source.split("__all__")[0], re.MULTILINE)
    homes = {name: module for module, names in declared for name in names.split(", ")}
    assert homes == tusd_py._HOME
    assert set(homes) == set(tusd_py.__all__) - {"__version__"}


def test_there_is_nothing_else() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'create_apps'"):
        tusd_py.create_apps  # noqa: B018


def test_importing_the_package_loads_nothing() -> None:
    assert run("import sys, json, tusd_py; print(json.dumps([n for n in sys.modules if n.startswith('tusd_py.')]))") == []


def test_what_hooks_and_authorisation_are_written_with_loads_no_web_framework() -> None:
    names = "HookAnswer, HookEvent, HttpResponse, Action, Decision, Upload, allow, deny, Settings"
    loaded = run(f"import sys, json\nfrom tusd_py import {names}\nprint(json.dumps(list(sys.modules)))")
    assert not {"starlette", "uvicorn", "tusd_py.asgi"} & set(loaded)


# What create_app takes


async def create(app: Any, **headers: str) -> int:
    return (await call(app, "POST", "/", TUS | {"upload-length": "5"} | headers)).status


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (allow("ann"), 201),
        (True, 201),
        (False, 403),
        (None, 401),
        (deny("no"), 403),
        (deny("no", status=401), 401),
        (allow("ann", max_size=4), 413),
        (allow("ann", metadata={"a": b"b"}), 403),
        ("yes", 500),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_authorize(tmp_path: Path, answer: Any, status: int, kind: str) -> None:
    asked: list[tuple[HttpRequest, Action, Upload | None]] = []

    def plain(request: HttpRequest, action: Action, upload: Upload | None) -> Any:
        asked.append((request, action, upload))
        return answer

    async def asynchronous(request: HttpRequest, action: Action, upload: Upload | None) -> Any:
        return plain(request, action, upload)

    app = create_app(tmp_path, authorize=plain if kind == "plain" else asynchronous)
    async with app.lifespan():
        answered = await call(app, "POST", "/", TUS | {"upload-length": "5"}, state={"user": "ann"})
    assert answered.status == status
    ((request, action, upload),) = asked
    assert (request.scope["state"], action, upload) == ({"user": "ann"}, Action.CREATE, None)


async def test_an_authorizer_is_taken_as_it_is(tmp_path: Path) -> None:
    class Mine:
        async def authorize(self, request: HttpRequest, action: Action, upload: Upload | None) -> Decision:
            return allow("ann")

        def sign_url(self, upload: Upload) -> str:
            return "?mine"

    app = create_app(tmp_path, authorize=Mine())
    async with app.lifespan():
        answer = await call(app, "POST", "/", TUS | {"upload-length": "5"})
    assert answer.headers["location"].endswith("?mine")


async def test_hooks_of_an_object_are_those_that_it_has(tmp_path: Path) -> None:
    class Mine:
        async def pre_create(self, event: HookEvent) -> HookAnswer:
            return HookAnswer(reject_upload=event.upload.length == 6)

        def pre_terminate(self, event: HookEvent) -> HookAnswer:
            return HookAnswer(reject_termination=True)

    app = create_app(tmp_path, hooks=Mine())
    async with app.lifespan():
        assert await create(app) == 201
        answer = await call(app, "POST", "/", TUS | {"upload-length": "6"})
        assert (answer.status, answer.body) == (400, b"ERR_UPLOAD_REJECTED: upload creation has been rejected by server\n")
        path = (await call(app, "POST", "/", TUS | {"upload-length": "5"})).headers["location"].removeprefix("http://here")
        assert (await call(app, "DELETE", path, TUS)).status == 400


async def test_a_function_is_asked_everything(tmp_path: Path) -> None:
    asked: list[HookType] = []

    async def hook(event: HookEvent) -> None:
        asked.append(event.type)

    app = create_app(tmp_path, hooks=hook)
    async with app.lifespan():
        stream = {"content-type": "application/offset+octet-stream"}
        assert (await call(app, "POST", "/", TUS | stream | {"upload-length": "5"}, b"hello")).status == 201
    assert asked[0] is HookType.PRE_CREATE and HookType.PRE_FINISH in asked


async def test_hooks_of_ones_own_are_taken_as_they_are(tmp_path: Path) -> None:
    class Mine:
        types = frozenset({HookType.PRE_CREATE})
        closed = False

        async def invoke(self, event: HookEvent) -> HookAnswer:
            return HookAnswer(reject_upload=True)

        async def close(self) -> None:
            self.closed = True

    mine = Mine()
    app = create_app(tmp_path, hooks=mine)
    async with app.lifespan():
        assert await create(app) == 400
    assert mine.closed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"authorize": "ann"}, "authorize is 'ann': a function of request, action and upload expected"),
        ({"hooks": object()}, "answers no hook"),
        ({"hook_timeout": timedelta(0)}, "hook_timeout is 0:00:00: a positive time expected"),
        ({"max_size": -1}, "max_size is -1"),
        ({"expiry": timedelta(0)}, "expiry is 0:00:00"),
        ({"durability": "sometimes"}, "sometimes"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_that_make_no_sense(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        create_app(tmp_path, **arguments)


async def test_settings_are_for_the_rest(tmp_path: Path) -> None:
    app = create_app(tmp_path, max_size=4, settings=Settings(status_interval=0.25, max_size=10))
    async with app.lifespan():
        assert await create(app) == 413
    assert app._status._watchers._interval == 0.25
