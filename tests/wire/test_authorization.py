"""Authorisation over sockets: who may do what to which upload, and the attacks on it. Stock clients are in tests/interop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import begin_patch, until
from tests.support.wire import OFFSET_STREAM, Answer, TusClient, b64, checksum, path_of
from tusd_py.authorization.intents import CLOCK_SKEW, read_keys, sign_intent
from tusd_py.authorization.jwt import LEEWAY
from tusd_py.authorization.keys import new_key, write_new_key_file

CHUNK = {"Content-Type": OFFSET_STREAM}
ALICE, BOB, ROOT, READER, CREATOR = (f"{name}-{name}-{name}-{name}" for name in ("alice", "bobby", "rooty", "reader", "create"))
TOKENS = f"""
{ALICE} alice
{BOB} bob
{ROOT} root any-owner
{READER} reader any-owner describe download
{CREATOR} creator create
"""


def bearer(token: str | None) -> dict[str, object]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def private(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o600)
    return path


def create(
    client: TusClient,
    token: str | None = None,
    *,
    length: int = 4,
    query: str = "",
    body: bytes | None = None,
    **headers: object,
) -> Answer:
    pairs: dict[str, object] = {"Upload-Length": length, **bearer(token)}
    pairs.update({name.replace("_", "-"): value for name, value in headers.items()})
    if body is not None:
        pairs["Content-Type"] = OFFSET_STREAM
    return client.request("POST", client.base + query, pairs, body)


def created(client: TusClient, token: str | None = None, **more: Any) -> str:
    """The path of a new upload, with its query."""
    answer = create(client, token, **more)
    assert answer.status == 201, (answer.status, answer.text)
    return path_of(answer.headers["location"])


def act(client: TusClient, verb: str, path: str, token: str | None = None) -> Answer:
    """One request of a verb; a PATCH sends the four bytes that the upload has."""
    headers: dict[str, object] = bearer(token)
    if verb == "PATCH":
        return client.request(verb, path, {**headers, **CHUNK, "Upload-Offset": 0}, b"0123")
    return client.request(verb, path, headers)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("tokens")
    with ServerProcess(directory / "data", f"-auth-tokens={private(directory / 'tokens', TOKENS)}") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> TusClient:
    return server.client()


# Verbs

GOOD = {"PATCH": 204, "HEAD": 200, "GET": 200, "DELETE": 204}
EVERYTHING, NOTHING = set(GOOD), set[str]()

MATRIX = [
    (ALICE, EVERYTHING, 403),
    (BOB, NOTHING, 403),
    (ROOT, EVERYTHING, 403),
    (READER, {"HEAD", "GET"}, 403),
    (CREATOR, NOTHING, 403),
    ("unknown-unknown-unknown", NOTHING, 401),
    (None, NOTHING, 401),
]


@pytest.mark.parametrize("verb", GOOD)
@pytest.mark.parametrize(("token", "allowed", "otherwise"), MATRIX, ids=[str(row[0]) for row in MATRIX])
def test_every_verb_with_and_without_permission(
    client: TusClient, server: ServerProcess, verb: str, token: str | None, allowed: set[str], otherwise: int
) -> None:
    path = created(client, ALICE)
    assert "?" not in path
    if verb == "GET":
        act(client, "PATCH", path, ALICE)
    answer = act(client, verb, path, token)
    assert answer.status == (GOOD[verb] if verb in allowed else otherwise)
    if verb not in allowed and verb != "GET":
        assert act(client, "HEAD", path, ALICE).offset == 0, "nothing has happened to it"
    if verb not in allowed and verb != "HEAD":
        assert answer.text.startswith({401: "ERR_UNAUTHORIZED: ", 403: "ERR_FORBIDDEN: "}[otherwise])
    assert ("www-authenticate" in answer.headers) == (answer.status == 401)


@pytest.mark.parametrize(
    ("token", "status"), [(ALICE, 201), (ROOT, 201), (CREATOR, 201), (READER, 403), ("unknown-unknown", 401), (None, 401)]
)
def test_creation_with_and_without_permission(client: TusClient, token: str | None, status: int) -> None:
    assert create(client, token).status == status


def test_a_method_in_the_header_is_the_one_that_counts(client: TusClient) -> None:
    path = created(client, ALICE)
    for method in ("PATCH", "DELETE"):
        headers = {**bearer(READER), **CHUNK, "Upload-Offset": 0, "X-HTTP-Method-Override": method}
        assert client.request("POST", path, headers, b"0123").status == 403
    assert act(client, "HEAD", path, ALICE).offset == 0


def test_a_preflight_needs_no_credentials(client: TusClient) -> None:
    for path in (client.base, created(client, ALICE)):
        headers = {"Origin": "http://page", "Access-Control-Request-Method": "PATCH"}
        answer = client.request("OPTIONS", path, headers, tus=False)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "http://page"
        assert "Authorization" in answer.headers["access-control-allow-headers"]


def test_a_refusal_can_be_read_by_a_page(client: TusClient) -> None:
    answer = client.request("POST", client.base, {"Origin": "http://page", "Upload-Length": 4})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (401, "http://page")


@pytest.mark.parametrize(("token", "status"), [(None, 401), (BOB, 403)])
def test_a_body_that_is_refused_is_not_asked_for(client: TusClient, token: str | None, status: int) -> None:
    path = created(client, ALICE, length=1 << 30)
    with client.connect() as connection:
        headers = {**bearer(token), **CHUNK, "Upload-Offset": 0, "Content-Length": 1 << 30, "Expect": "100-continue"}
        connection.send_head("PATCH", path, headers)
        answer = connection.answer()
        assert (answer.status, answer.interim) == (status, [])
        assert connection.is_closed()


@pytest.mark.parametrize(("token", "status"), [(None, 401), (BOB, 403)])
def test_who_may_not_touch_it_disturbs_nobody(client: TusClient, token: str | None, status: int) -> None:
    path = created(client, ALICE)
    with begin_patch(client, path, 0, 4, Authorization=f"Bearer {ALICE}") as running:
        for verb in GOOD:
            assert act(client, verb, path, token).status == status
        running.send(b"0123")
        answer = running.answer()
    assert (answer.status, answer.offset) == (204, 4)


def test_an_upload_that_is_not_there_is_missing(client: TusClient) -> None:
    for verb in GOOD:
        assert act(client, verb, client.base + "0" * 32, ALICE).status == 404


def test_owners_are_kept_over_a_restart(start_server: StartServer, tmp_path: Path) -> None:
    flag = f"-auth-tokens={private(tmp_path / 'tokens', TOKENS)}"
    server = start_server(flag)
    path = created(server.client(), ALICE)
    server.kill()
    client = start_server(flag).client()
    assert act(client, "HEAD", path, BOB).status == 403
    assert act(client, "PATCH", path, ALICE).status == 204


def test_what_was_there_before_is_everybodys_who_is_let_in(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    path = created(server.client())
    server.kill()
    client = start_server(f"-auth-tokens={private(tmp_path / 'tokens', TOKENS)}").client()
    assert act(client, "HEAD", path).status == 401
    assert act(client, "HEAD", path, BOB).status == 200
    assert act(client, "PATCH", path, ALICE).status == 204


def test_a_token_that_is_taken_out_of_the_file_is_refused(start_server: StartServer, tmp_path: Path) -> None:
    tokens = private(tmp_path / "tokens", TOKENS)
    client = start_server(f"-auth-tokens={tokens}", "-workers=2").client()
    path = created(client, ALICE)
    tokens.write_text(f"{BOB} bob\n")
    until(lambda: [act(client, "HEAD", path, ALICE).status for _ in range(6)] == [401] * 6, what="both workers have seen it")


# Concatenation


def concatenate(client: TusClient, token: str, *paths: str) -> Answer:
    headers = {**bearer(token), "Upload-Concat": "final;" + " ".join(paths)}
    return client.request("POST", client.base, headers)


def test_partials_of_somebody_else_are_not_joined(client: TusClient) -> None:
    def partial(token: str) -> str:
        return created(client, token, body=b"0123", Upload_Concat="partial")

    mine, other = partial(ALICE), partial(BOB)
    for paths in ((other,), (mine, other), (other, mine)):
        answer = concatenate(client, ALICE, *paths)
        assert (answer.status, answer.text.partition(":")[0]) == (403, "ERR_FORBIDDEN")
    final = concatenate(client, ALICE, mine)
    assert final.status == 201
    assert act(client, "GET", path_of(final.headers["location"]), BOB).status == 403
    assert act(client, "GET", path_of(final.headers["location"]), ALICE).body == b"0123"
    assert concatenate(client, ROOT, mine, other).status == 201


def test_where_nobody_is_asked_what_has_an_owner_is_everybodys(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(f"-auth-tokens={private(tmp_path / 'tokens', TOKENS)}")
    partial = created(server.client(), ALICE, body=b"0123", Upload_Concat="partial")
    server.kill()
    client = start_server().client()
    final = client.request("POST", client.base, {"Upload-Concat": f"final;{partial}"})
    assert final.status == 201
    assert act(client, "GET", path_of(final.headers["location"])).body == b"0123"


# Intents and capabilities


class Intents:
    """A server whose uploads need an intent, and the secret of who signs them."""

    def __init__(self, server: ServerProcess, secret: Path) -> None:
        self.server, self.secret, self.client = server, secret, server.client()

    def sign(self, **bounds: Any) -> str:
        return sign_intent(read_keys(self.secret)[0], **bounds)

    def create(self, intent: str, **more: Any) -> Answer:
        return create(self.client, query=f"?intent={intent}", **more)


@pytest.fixture(scope="module")
def intents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intents]:
    directory = tmp_path_factory.mktemp("intents")
    write_new_key_file(directory / "secret")
    flags = (f"-auth-intents={directory / 'secret'}", "-url-capabilities", "-workers=2")
    with ServerProcess(directory / "data", *flags) as server:
        yield Intents(server, directory / "secret")


def test_an_intent_creates_and_its_url_goes_on(intents: Intents) -> None:
    client = intents.client
    path = path_of(intents.create(intents.sign(owner="alice")).headers["location"])
    bare = path.partition("?")[0]
    assert path.startswith(f"{bare}?capability=tc1.adt.0.")
    for verb in GOOD:
        assert act(client, verb, bare).status == 401
    assert act(client, "PATCH", path).status == 204
    assert act(client, "HEAD", path).offset == 4
    assert act(client, "GET", path).status == 401, "URLs get around"
    assert act(client, "DELETE", path).status == 204


@pytest.mark.parametrize("place", ["Upload-Intent", "Authorization"])
def test_an_intent_may_stand_in_a_header(intents: Intents, place: str) -> None:
    value = intents.sign() if place == "Upload-Intent" else f"Bearer {intents.sign()}"
    assert create(intents.client, **{place: value}).status == 201
    assert create(intents.client, **{place: value}).status == 403


def test_an_intent_is_for_one_upload(intents: Intents) -> None:
    intent = intents.sign()
    assert intents.create(intent).status == 201
    for _ in range(4):
        answer = intents.create(intent)
        assert (answer.status, answer.text) == (403, "ERR_FORBIDDEN: this upload intent has been used\n")
    again = intents.sign(reusable=True)
    assert [intents.create(again).status for _ in range(3)] == [201] * 3


def test_of_many_who_replay_an_intent_one_creates(intents: Intents) -> None:
    """On two workers, so that no process alone could tell."""
    with ThreadPoolExecutor(16) as pool:
        for _ in range(5):
            intent = intents.sign()
            answers = list(pool.map(lambda _, intent=intent: intents.create(intent, body=b"0123").status, range(16)))
            assert sorted(answers) == [201] + [403] * 15


def test_an_intent_stays_used_after_the_server_was_killed(start_server: StartServer, tmp_path: Path) -> None:
    write_new_key_file(tmp_path / "secret")
    flags = (f"-auth-intents={tmp_path / 'secret'}", "-url-capabilities")
    first = Intents(start_server(*flags), tmp_path / "secret")
    intent = first.sign()
    assert first.create(intent).status == 201
    first.server.kill()
    assert Intents(start_server(*flags), tmp_path / "secret").create(intent).status == 403


def test_an_intent_is_given_back_when_nothing_is_created(intents: Intents) -> None:
    intent = intents.sign(max_size=4)
    for refused, status in (
        ({"length": 5}, 413),
        ({"Upload_Length": "x"}, 400),
        ({"body": b"0123", "Upload_Checksum": checksum("sha1", b"other")}, 460),
    ):
        assert intents.create(intent, **refused).status == status
    assert intents.create(intent).status == 201


def test_an_intent_bounds_the_size(intents: Intents) -> None:
    assert intents.create(intents.sign(max_size=3)).status == 413
    assert intents.create(intents.sign(max_size=4)).status == 201


def test_an_intent_bounds_a_length_that_is_declared_later(intents: Intents) -> None:
    client = intents.client
    answer = client.request("POST", f"{client.base}?intent={intents.sign(max_size=3)}", {"Upload-Defer-Length": 1})
    path = path_of(answer.headers["location"])
    declare = {**CHUNK, "Upload-Offset": 0, "Upload-Length": 4}
    assert client.request("PATCH", path, declare, b"").status == 413
    assert client.request("PATCH", path, {**CHUNK, "Upload-Offset": 0}, b"0123").status == 413
    assert client.request("PATCH", path, {**declare, "Upload-Length": 3}, b"").status == 204


def test_an_intent_asks_for_metadata(intents: Intents) -> None:
    intent = intents.sign(metadata={"folder": "ä"}, types=["image/*"])
    picture = f"filetype {b64('image/png')}"
    assert intents.create(intent).status == 403
    assert intents.create(intent, Upload_Metadata=f"folder {b64('ä')}").status == 403
    assert intents.create(intent, Upload_Metadata=picture).status == 403
    answer = intents.create(intent, Upload_Metadata=f"folder {b64('a')},{picture}")
    assert (answer.status, "'folder'" in answer.text) == (403, True)
    assert intents.create(intent, Upload_Metadata=f"folder {b64('ä')},{picture}").status == 201


def test_an_intent_that_has_expired_is_refused(intents: Intents) -> None:
    old = intents.sign(expires_in=60, clock=lambda: time.time() - 60 - CLOCK_SKEW)
    answer = intents.create(old)
    assert answer.status == 401 and "expired" in answer.headers["www-authenticate"]


def test_an_intent_that_was_tampered_with_is_refused(intents: Intents) -> None:
    good, other = intents.sign(max_size=1), intents.sign(max_size=10**9)
    stolen = sign_intent(new_key(), max_size=10**9)
    (payload, signature), (other_payload, other_signature) = (each.rsplit(".", 1) for each in (good, other))
    mixed = [f"{payload}.{other_signature}", f"{other_payload}.{signature}"]
    for intent in (*mixed, stolen, good[:-1], good + "A", "", good[4:], good.upper(), f"{good}&intent={good}"):
        assert intents.create(intent).status == 401, intent
    assert intents.create(good, length=1).status == 201


def test_a_capability_is_for_its_own_upload(intents: Intents) -> None:
    client = intents.client
    one, two = (path_of(intents.create(intents.sign(owner="alice")).headers["location"]) for _ in range(2))
    (first, mine), (second, other) = one.split("?"), two.split("?")
    bad = mine[:-1] + ("A" if mine[-1] != "A" else "E")
    for query in (other, bad, mine[:-1], mine + "A", f"{mine}&{mine}", mine.replace("tc1.adt.", "tc1.adgt."), "capability="):
        for verb in GOOD:
            assert act(client, verb, f"{first}?{query}").status == 401, (verb, query)
    assert act(client, "PATCH", one).status == act(client, "PATCH", two).status == 204
    assert act(client, "HEAD", f"{second}?{mine}").status == 401


def test_capabilities_in_upload_concat_are_ignored(intents: Intents) -> None:
    intent = intents.sign(owner="alice", reusable=True)
    partials = [
        path_of(intents.create(intent, body=b"0123", Upload_Concat="partial").headers["location"]) for _ in range(2)
    ]
    headers = {"Upload-Concat": f"final;{partials[0]} {partials[1]}"}
    assert intents.client.request("POST", f"{intents.client.base}?intent={intents.sign(owner='bob')}", headers).status == 403
    answer = intents.client.request("POST", f"{intents.client.base}?intent={intent}", headers)
    assert answer.status == 201
    assert act(intents.client, "HEAD", path_of(answer.headers["location"])).headers["upload-length"] == "8"


# JSON Web Tokens


@pytest.fixture(scope="module")
def by_jwt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TusClient, str]]:
    directory = tmp_path_factory.mktemp("jwt")
    secret = new_key()
    flags = (
        f"-auth-jwt-secret={private(directory / 'secret', secret)}",
        "-auth-jwt-issuer=me",
        "-url-capabilities",
        f"-auth-url-secret={private(directory / 'url-secret', new_key())}",
        "-url-capability-actions=append,describe",
        "-url-capability-lifetime=1h",
    )
    with ServerProcess(directory / "data", *flags) as server:
        yield server.client(), secret


def token(secret: str, **claims: object) -> str:
    return jwt.encode({"sub": "alice", "iss": "me", "exp": time.time() + 600, **claims}, secret, "HS256")


def test_a_token_that_expires_does_not_strand_an_upload(by_jwt: tuple[TusClient, str]) -> None:
    client, secret = by_jwt
    path = created(client, token(secret))
    expired = token(secret, exp=time.time() - LEEWAY)
    assert create(client, expired).status == 401
    assert act(client, "HEAD", path.partition("?")[0], expired).status == 401
    assert act(client, "HEAD", path, expired).status == 200
    assert act(client, "PATCH", path, expired).status == 204
    assert act(client, "DELETE", path, expired).status == 401, "not among the actions of the URL"
    assert act(client, "DELETE", path, token(secret, sub="bob")).status == 403
    assert act(client, "DELETE", path, token(secret)).status == 204


def test_claims_bound_what_the_holder_may_do(by_jwt: tuple[TusClient, str]) -> None:
    client, secret = by_jwt
    bounded = token(secret, **{"tus:max_size": 3, "tus:actions": ["create"]})
    assert create(client, bounded).status == 413
    path = created(client, bounded, length=3).partition("?")[0]
    assert act(client, "HEAD", path, bounded).status == 403
    assert create(client, token(secret, iss="you")).status == 401
    unsigned = jwt.encode({"sub": "alice", "iss": "me", "exp": time.time() + 600}, None, "none")  # type: ignore[arg-type]
    assert create(client, unsigned).status == 401


# A function

MODULE = """
import time

def authorize(request, action, upload):
    user = request.header("X-User")
    if user == "broken":
        raise LookupError("the password of the database")
    if user == "root":
        return True
    return None

async def asynchronous(request, action, upload):
    return authorize(request, action, upload)
"""


@pytest.mark.parametrize("function", ["authorize", "asynchronous"])
def test_a_function_decides(start_server: StartServer, tmp_path: Path, function: str) -> None:
    (tmp_path / "wire_authorizer.py").write_text(MODULE)
    server = start_server(
        f"-auth-python=wire_authorizer:{function}",
        env={"PYTHONPATH": str(tmp_path)},
        tolerate=["authorization failed"],
    )
    client = server.client()
    path = created(client, X_User="root")
    assert client.request("HEAD", path, {"X-User": "root"}).status == 200
    assert client.request("HEAD", path).status == 401
    broken = {"X-User": "broken"}
    answer = client.request("DELETE", path, broken)
    assert (answer.status, answer.text) == (500, "ERR_INTERNAL_SERVER_ERROR: permission can't be checked just now\n")
    assert client.request("HEAD", path, broken).status == 423, "on a 5xx tus-js-client would start over"
    until(lambda: "the password of the database" in server.log, what="the log comes a little later")
    assert client.request("HEAD", path, {"X-User": "root"}).status == 200


# Files


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["-auth-tokens={dir}/missing"], "cannot read {dir}/missing: No such file or directory"),
        (["-auth-tokens={dir}/broken"], "{dir}/broken: line 1: expected a token, its owner"),
        (["-auth-python=no_such_module:x"], "-auth-python: cannot import 'no_such_module'"),
        (["-auth-intents={dir}/broken"], "-auth-intents lets nobody send bytes to what was created"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_can_not_be_used_keeps_the_server_from_starting(
    tmp_path: Path, flags: list[str], sentence: str, workers: int
) -> None:
    (tmp_path / "broken").write_text("broken")
    server = ServerProcess(tmp_path / "data", *(flag.format(dir=tmp_path) for flag in flags), f"-workers={workers}")
    with pytest.raises(RuntimeError) as failed:
        server.start(timeout=60)
    server.kill()
    assert sentence.format(dir=tmp_path) in str(failed.value)
