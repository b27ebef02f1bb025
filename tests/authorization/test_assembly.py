"""From settings to an authorizer: what is asked for is there, and what can't be is told in a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.authorization.support import allowed, denied, request, secret_file, upload
from tusd_py import create_app
from tusd_py.assembly.authorization import build_authorizer
from tusd_py.authorization.intents import read_keys, sign_intent
from tusd_py.ports.authorization import Action, Authorizer
from tusd_py.settings import Settings, SettingsError

TOKEN = "static-token-static"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "tokens").write_text(f"{TOKEN} alice")
    (tmp_path / "tokens").chmod(0o600)
    (tmp_path / "jwks.json").write_text('{"keys": [{"kty": "oct", "k": "%s"}]}' % ("A" * 43))
    names = ("secret", "url-secret")
    return {"upload_dir": tmp_path / "data"} | {name: tmp_path / name for name in ("tokens", "jwks.json")} | {
        name: secret_file(tmp_path / name) for name in names
    }


def build(files: dict[str, Path], **settings: Any) -> Authorizer:
    authorizer = build_authorizer(Settings(upload_dir=files["upload_dir"], **settings))
    assert authorizer is not None
    return authorizer


def test_nothing_asked_for_is_nothing(tmp_path: Path) -> None:
    assert build_authorizer(Settings(upload_dir=tmp_path)) is None


async def test_tokens(files: dict[str, Path]) -> None:
    authorizer = build(files, auth_tokens=files["tokens"])
    assert allowed(await authorizer.authorize(request(bearer=TOKEN), Action.CREATE, None)).owner == "alice"
    denied(await authorizer.authorize(request(), Action.CREATE, None), 401)
    assert authorizer.sign_url(upload()) == ""


@pytest.mark.parametrize("kind", ["auth_jwt_secret", "auth_jwt_keys"])
async def test_json_web_tokens(files: dict[str, Path], kind: str) -> None:
    key = read_keys(files["secret"])[0] if kind == "auth_jwt_secret" else b"\0" * 32
    path = files["secret"] if kind == "auth_jwt_secret" else files["jwks.json"]
    settings = {kind: path, "auth_jwt_issuer": "me", "auth_jwt_audience": "you", "auth_jwt_owner_claim": "email"}
    authorizer = build(files, **settings)
    claims = {"iss": "me", "aud": "you", "email": "a@b", "exp": 4e9}
    shown = request(bearer=jwt.encode(claims, key, "HS256"))
    assert allowed(await authorizer.authorize(shown, Action.CREATE, None)).owner == "a@b"
    for name in claims:
        other = request(bearer=jwt.encode({**claims, name: "1"}, key, "HS256"))
        decision = await authorizer.authorize(other, Action.CREATE, None)
        assert decision.owner == "1" if name == "email" else not decision.allowed


async def test_intents_and_urls(files: dict[str, Path]) -> None:
    authorizer = build(files, auth_intents=files["secret"], url_capabilities=True)
    intent = sign_intent(read_keys(files["secret"])[0], owner="alice")
    decision = allowed(await authorizer.authorize(request(f"/files/?intent={intent}"), Action.CREATE, None))
    assert decision.claim is not None
    await decision.claim()
    mine = upload("mine", owner="alice")
    url = "/files/mine" + authorizer.sign_url(mine)
    for action in (Action.APPEND, Action.DESCRIBE, Action.TERMINATE):
        allowed(await authorizer.authorize(request(url), action, mine))
    denied(await authorizer.authorize(request(url), Action.DOWNLOAD, mine), 401)


async def test_urls_of_a_secret_of_their_own(files: dict[str, Path]) -> None:
    authorizer = build(
        files,
        auth_tokens=files["tokens"],
        url_capabilities=True,
        auth_url_secret=files["url-secret"],
        url_capability_actions="download, describe",
        url_capability_lifetime=60.0,
    )
    mine = upload("mine", owner="alice")
    query = authorizer.sign_url(mine)
    assert query.startswith("?capability=tc1.dg.") and not query.startswith("?capability=tc1.dg.0.")
    allowed(await authorizer.authorize(request("/files/mine" + query), Action.DOWNLOAD, mine))
    denied(await authorizer.authorize(request("/files/mine" + query), Action.APPEND, mine), 401)


async def test_a_function(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assembled_authorizer.py").write_text("async def decide(request, action, upload): return action == 'create'")
    monkeypatch.syspath_prepend(tmp_path)
    authorizer = build(files, auth_python="assembled_authorizer:decide")
    allowed(await authorizer.authorize(request(), Action.CREATE, None))
    denied(await authorizer.authorize(request(), Action.TERMINATE, upload()), 403)


@pytest.mark.parametrize("authorize", [None, lambda *_: True], ids=["settings", "argument"])
async def test_an_application_that_is_mounted_keeps_to_its_settings(files: dict[str, Path], authorize: Any) -> None:
    app = create_app(files["upload_dir"], settings=Settings(auth_tokens=files["tokens"]), authorize=authorize)
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "4"}
    async with app.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
        stranger = await client.post("/", headers=headers)
        alice = await client.post("/", headers={**headers, "Authorization": f"Bearer {TOKEN}"})
    assert (stranger.status_code, alice.status_code) == (401 if authorize is None else 201, 201)


SENTENCES: list[tuple[dict[str, Any], str]] = [
    ({"auth_jwt_issuer": "me"}, "expected -auth-jwt-keys or -auth-jwt-secret"),
    ({"auth_jwt_audience": "me"}, "expected -auth-jwt-keys or -auth-jwt-secret"),
    ({"url_capabilities": True}, "expected -auth-url-secret or -auth-intents"),
    ({"url_capabilities": True, "auth_url_secret": Path("x")}, "lets nobody create uploads"),
    ({"auth_intents": Path("x")}, "lets nobody send bytes"),
]


@pytest.mark.parametrize(("settings", "sentence"), SENTENCES)
def test_combinations_that_make_no_sense_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        Settings(**settings)


UNUSABLE: list[tuple[dict[str, str], str]] = [
    ({"auth_tokens": "missing"}, "cannot read .*missing: No such file"),
    ({"auth_tokens": "secret"}, "secret: line 1: expected a token"),
    ({"auth_jwt_secret": "missing"}, "cannot read .*missing"),
    ({"auth_jwt_keys": "secret"}, "secret: expected a JSON Web Key Set"),
    ({"auth_intents": "tokens", "url_capabilities": "1"}, "tokens: line 1: .* without blanks"),
]


@pytest.mark.parametrize(("settings", "sentence"), UNUSABLE)
def test_files_that_can_not_be_used_are_told(files: dict[str, Path], settings: dict[str, str], sentence: str) -> None:
    paths = {name: files["tokens"].with_name(value) if name != "url_capabilities" else True for name, value in settings.items()}
    with pytest.raises(SettingsError, match=sentence):
        build(files, **paths)


UNFIT = [("fly", "unknown action 'fly'"), ("", "for nothing"), ("create", "can't be a permission to create")]


@pytest.mark.parametrize(("actions", "sentence"), UNFIT)
def test_actions_that_no_url_can_have_are_told(files: dict[str, Path], actions: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=f"-url-capability-actions: .*{sentence}"):
        build(files, auth_intents=files["secret"], url_capabilities=True, url_capability_actions=actions)


def test_a_function_that_is_not_there_is_told(files: dict[str, Path]) -> None:
    with pytest.raises(SettingsError, match="-auth-python: cannot import 'no_such_module'"):
        build(files, auth_python="no_such_module:decide")


@pytest.mark.parametrize("package", ["jwt", "cryptography"])
def test_a_missing_extra_is_told(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in ("tusd_py.authorization.jwks", "tusd_py.authorization.jwt"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingsError, match=rf"JWTs need the package {package}: install .*tusd-py\[jwt\]"):
        build(files, auth_jwt_secret=files["secret"])


def test_what_is_not_asked_for_is_not_imported(files: dict[str, Path]) -> None:
    script = (
        "import sys; from pathlib import Path; from tusd_py.settings import Settings\n"
        "from tusd_py.assembly.authorization import build_authorizer\n"
        f"assert build_authorizer(Settings(auth_tokens=Path({str(files['tokens'])!r})))\n"
        "print(sorted({'jwt', 'cryptography'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
