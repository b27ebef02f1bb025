"""JSON Web Tokens: every algorithm, the attacks on them, and the claims."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from tests.authorization.support import NOW, TurnedClock, allowed, denied, every_flip, request, secret_file, upload, write
from tusd_py.authorization.jwks import parse_jwks, parse_secrets
from tusd_py.authorization.jwt import LEEWAY, JsonWebTokens
from tusd_py.authorization.watched import WatchedFile
from tusd_py.ports.authorization import Action, Decision

SECRET = "s" * 64
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
P256, P384, P521 = (ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()))
K256 = ec.generate_private_key(ec.SECP256K1())
ED25519, ED448 = ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()

KEYS: dict[str, Any] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA),
    "ES256": P256,
    "ES384": P384,
    "ES512": P521,
    "ES256K": K256,
    "EdDSA": ED25519,
    **dict.fromkeys(("HS256", "HS384", "HS512"), SECRET),
}


def public(key: Any, algorithm: str, **more: str) -> dict[str, Any]:
    """The key as a member of a JWKS."""
    public_key = key if isinstance(key, str) else key.public_key()
    member: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(public_key, as_dict=True)
    member.pop("key_ops", None)
    return {**member, **more}


def jwks(*members: dict[str, Any]) -> str:
    return json.dumps({"keys": members})


def token(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    claims = {"sub": "alice", "exp": NOW + 60, **claims}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm, headers=headers)


@dataclass
class Verifier:
    """Recognises with the keys in one file, at a time that can be turned."""

    path: Path
    clock: TurnedClock
    build: Callable[..., JsonWebTokens]

    async def ask(self, shown: str, action: Action = Action.CREATE, **options: Any) -> Decision | None:
        return await self.build(**options).recognize(request(bearer=shown), action, upload())


@pytest.fixture
def by_secret(tmp_path: Path) -> Verifier:
    path, clock = secret_file(tmp_path / "secret", SECRET), TurnedClock()
    return Verifier(path, clock, lambda **more: JsonWebTokens([WatchedFile(path, parse_secrets)], clock=clock, **more))


@pytest.fixture
def by_set(tmp_path: Path) -> Callable[[str], Verifier]:
    def make(content: str) -> Verifier:
        path, clock = tmp_path / "jwks.json", TurnedClock()
        write(path, content)
        file = WatchedFile(path, parse_jwks, secret=False, interval=0)
        return Verifier(path, clock, lambda **more: JsonWebTokens([file], clock=clock, **more))

    return make


# Algorithms


@pytest.mark.parametrize("algorithm", KEYS)
async def test_every_algorithm_from_a_key_set(by_set: Callable[[str], Verifier], algorithm: str) -> None:
    verifier = by_set(jwks(public(KEYS[algorithm], algorithm, alg=algorithm)))
    assert allowed(await verifier.ask(token(KEYS[algorithm], algorithm))).owner == "alice"


@pytest.mark.parametrize("algorithm", [name for name in KEYS if not name.startswith("PS")])
async def test_a_key_that_names_no_algorithm_is_for_its_types(by_set: Callable[[str], Verifier], algorithm: str) -> None:
    verifier = by_set(jwks(public(KEYS[algorithm], algorithm)))
    allowed(await verifier.ask(token(KEYS[algorithm], algorithm)))


async def test_ed448(by_set: Callable[[str], Verifier]) -> None:
    allowed(await by_set(jwks(public(ED448, "EdDSA"))).ask(token(ED448, "EdDSA")))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_every_hmac_from_a_secret_file(by_secret: Verifier, algorithm: str) -> None:
    allowed(await by_secret.ask(token(SECRET, algorithm)))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_secret_shorter_than_the_digest_is_not_for_that_algorithm(tmp_path: Path, algorithm: str) -> None:
    short = "s" * 32
    file = WatchedFile(secret_file(tmp_path / "secret", short), parse_secrets)
    signing_input, _, _ = token(SECRET, algorithm).rpartition(".")
    digest = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}[algorithm]
    signed = f"{signing_input}.{encoded(hmac.digest(short.encode(), signing_input.encode(), digest))}"
    decision = await JsonWebTokens([file], clock=TurnedClock()).recognize(request(bearer=signed), Action.CREATE, None)
    assert (decision is not None) == (algorithm == "HS256")


# Attacks


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(algorithm: str, signature: bytes = b"", **claims: Any) -> str:
    parts = ({"alg": algorithm, "typ": "JWT"}, {"sub": "alice", "exp": NOW + 60, **claims})
    return ".".join([*(encoded(json.dumps(part).encode()) for part in parts), encoded(signature)])


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
async def test_no_algorithm_is_none(by_set: Callable[[str], Verifier], algorithm: str) -> None:
    verifier = by_set(jwks(public(RSA, "RS256"), public(SECRET, "HS256")))
    assert await verifier.ask(forged(algorithm)) is None
    assert await verifier.ask(forged(algorithm, b"x")) is None


@pytest.mark.parametrize("pinned", [{}, {"alg": "RS256"}], ids=["free", "pinned"])
@pytest.mark.parametrize("form", ["pem", "pkcs1", "der", "jwk", "modulus"])
async def test_a_public_key_is_no_hmac_secret(by_set: Callable[[str], Verifier], form: str, pinned: dict[str, str]) -> None:
    numbers = RSA.public_key().public_numbers()
    secret = {
        "pem": RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        "pkcs1": RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1),
        "der": RSA.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(public(RSA, "RS256")).encode(),
        "modulus": numbers.n.to_bytes(256, "big"),
    }[form]
    signing_input, _, _ = forged("HS256").rpartition(".")
    signature = hmac.new(secret, signing_input.encode(), hashlib.sha256).digest()
    verifier = by_set(jwks(public(RSA, "RS256", **pinned)))
    assert await verifier.ask(f"{signing_input}.{encoded(signature)}") is None


async def test_a_key_is_only_for_the_algorithm_that_it_names(by_set: Callable[[str], Verifier]) -> None:
    verifier = by_set(jwks(public(RSA, "RS256", alg="RS256")))
    allowed(await verifier.ask(token(RSA, "RS256")))
    for algorithm in ("RS384", "RS512", "PS256"):
        assert await verifier.ask(token(RSA, algorithm)) is None


async def test_another_key_does_not_sign(by_set: Callable[[str], Verifier]) -> None:
    assert await by_set(jwks(public(RSA, "RS256"))).ask(token(OTHER_RSA, "RS256")) is None


async def test_a_key_that_the_token_brings_along_counts_for_nothing(by_set: Callable[[str], Verifier]) -> None:
    verifier = by_set(jwks(public(RSA, "RS256")))
    headers = {"jwk": public(OTHER_RSA, "RS256"), "jku": "http://127.0.0.1:1/jwks.json", "x5u": "http://127.0.0.1:1/x"}
    assert await verifier.ask(token(OTHER_RSA, "RS256", headers=headers)) is None


async def test_no_bit_may_differ(by_secret: Verifier) -> None:
    recognizer = by_secret.build()
    for flipped in every_flip(token()):
        decision = await recognizer.recognize(request(bearer=flipped), Action.CREATE, None)
        assert decision is None or not decision.allowed, flipped


async def test_no_byte_may_be_missing_or_added(by_secret: Verifier) -> None:
    good = token()
    for end in range(len(good)):
        assert await by_secret.ask(good[:end]) is None
    for more in (".", "=", "A", ".A", "..", "\xa0"):
        assert await by_secret.ask(good + more) is None
    assert await by_secret.ask("." + good) is None


async def test_parts_of_two_tokens_do_not_make_a_third(by_secret: Verifier) -> None:
    alice, bob = token().split("."), token(sub="bob", exp=NOW + 9999).split(".")
    for parts in ([alice[0], bob[1], alice[2]], [alice[0], alice[1], bob[2]], [bob[0], bob[1], alice[2]]):
        assert await by_secret.ask(".".join(parts)) is None


@pytest.mark.parametrize("headers", [{"crit": ["exp"], "exp": 1}, {"b64": False, "crit": ["b64"]}], ids=["crit", "b64"])
async def test_extensions_that_must_be_understood_are_not(by_secret: Verifier, headers: dict[str, Any]) -> None:
    shown = jwt.api_jws.encode(json.dumps({"sub": "alice", "exp": NOW + 60}).encode(), SECRET, "HS256", headers=headers)
    assert await by_secret.ask(shown) is None


@pytest.mark.parametrize("payload", [b"[]", b"null", b"{", b"\xff", b'{"sub":"a","exp":' + b"9" * 5000 + b"}", b"[" * 10_000])
async def test_a_signed_payload_that_is_no_object_is_not_recognised(by_secret: Verifier, payload: bytes) -> None:
    decision = await by_secret.ask(jwt.api_jws.encode(payload, SECRET, "HS256"))
    assert decision is None or not decision.allowed


@pytest.mark.parametrize("header", [{"alg": 5}, {"alg": None}, {}, {"alg": "HS256", "kid": 5}, [], "HS256"])
async def test_headers_that_make_no_sense_are_not_recognised(by_secret: Verifier, header: Any) -> None:
    assert await by_secret.ask(f"{encoded(json.dumps(header).encode())}.{encoded(b'{}')}.{encoded(b'x')}") is None


# Which key


async def test_the_key_that_the_token_names_is_used(by_set: Callable[[str], Verifier]) -> None:
    verifier = by_set(jwks(public(RSA, "RS256", kid="old"), public(OTHER_RSA, "RS256", kid="new")))
    allowed(await verifier.ask(token(OTHER_RSA, "RS256", headers={"kid": "new"})))
    assert await verifier.ask(token(OTHER_RSA, "RS256", headers={"kid": "old"})) is None
    assert await verifier.ask(token(OTHER_RSA, "RS256", headers={"kid": "unknown"})) is None


async def test_a_token_that_names_none_is_tried_with_all(by_set: Callable[[str], Verifier]) -> None:
    verifier = by_set(jwks(public(RSA, "RS256", kid="old"), public(P256, "ES256"), public(OTHER_RSA, "RS256", kid="new")))
    for key, algorithm in ((RSA, "RS256"), (P256, "ES256"), (OTHER_RSA, "RS256")):
        allowed(await verifier.ask(token(key, algorithm)))


async def test_rotation_of_a_key_set_needs_no_restart(by_set: Callable[[str], Verifier]) -> None:
    verifier = by_set(jwks(public(RSA, "RS256")))
    allowed(await verifier.ask(token(RSA, "RS256")))
    write(verifier.path, jwks(public(OTHER_RSA, "RS256")))
    assert await verifier.ask(token(RSA, "RS256")) is None
    allowed(await verifier.ask(token(OTHER_RSA, "RS256")))


def test_what_is_not_for_signatures_is_left_out() -> None:
    useful = public(RSA, "RS256", kid="useful")
    others = [
        public(OTHER_RSA, "RS256", use="enc"),
        {**public(OTHER_RSA, "RS256"), "key_ops": ["encrypt"]},
        public(OTHER_RSA, "RS256", alg="RSA-OAEP"),
        {"kty": "OKP", "crv": "X25519", "x": "AAAA"},
        {"kty": "quantum"},
        {},
        "key",
    ]
    (key,) = parse_jwks(jwks(*others, useful).encode())  # type: ignore[arg-type]
    assert key.kid == "useful"


def test_private_parts_are_not_loaded() -> None:
    member = jwt.get_algorithm_by_name("ES256").to_jwk(P256, as_dict=True)
    assert "d" in member
    (key,) = parse_jwks(json.dumps({"keys": [member]}).encode())
    assert isinstance(key.by_algorithm["ES256"].key, ec.EllipticCurvePublicKey)


WEAK = rsa.generate_private_key(65537, 1024)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "no JSON"),
        ("[]", 'an object with a list "keys"'),
        ('{"keys": {}}', 'an object with a list "keys"'),
        ('{"keys": []}', "no key for signatures"),
        (jwks({"kty": "quantum"}), "no key for signatures"),
        (jwks({"kty": "RSA", "e": "AQAB"}), "key 1: "),
        (jwks({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}), "key 1: "),
        (jwks({"kty": "EC", "crv": "P-256", "x": 5, "y": 5}), "key 1: "),
        (jwks(public(RSA, "RS256"), public("tooshort", "HS256")), "key 2: .*8 bytes"),
        (jwks(public(WEAK, "RS256")), "key 1: .*1024 bits"),
        (jwks({**public(RSA, "RS256"), "kid": 5}), "key 1: expected a text as kid"),
        (jwks(*[{}] * 101), "100 at the most"),
    ],
)
def test_key_sets_that_make_no_sense_are_refused(content: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_jwks(content.encode())


# Claims

EXPIRY = [(59, True), (60, True), (60 + LEEWAY - 1, True), (60 + LEEWAY, False), (1e6, False)]


@pytest.mark.parametrize(("later", "valid"), EXPIRY)
async def test_expiry_to_the_second(by_secret: Verifier, later: float, valid: bool) -> None:
    by_secret.clock.now += later
    decision = await by_secret.ask(token())
    if valid:
        allowed(decision)
    else:
        challenge = denied(decision, 401).headers["WWW-Authenticate"]
        assert 'error="invalid_token"' in challenge and "expired" in challenge


@pytest.mark.parametrize(("ahead", "valid"), [(0, True), (LEEWAY, True), (LEEWAY + 1, False)])
async def test_the_beginning_to_the_second(by_secret: Verifier, ahead: float, valid: bool) -> None:
    decision = await by_secret.ask(token(nbf=NOW + ahead))
    assert decision is not None and decision.allowed == valid


ISSUED = [
    ({}, {}, True),
    ({"issuer": "https://id.example"}, {"iss": "https://id.example"}, True),
    ({"issuer": "https://id.example"}, {"iss": "https://id.example/"}, False),
    ({"issuer": "https://id.example"}, {"iss": ["https://id.example"]}, False),
    ({"issuer": "https://id.example"}, {}, False),
    ({}, {"iss": "anybody"}, True),
    ({"audience": "uploads"}, {"aud": "uploads"}, True),
    ({"audience": "uploads"}, {"aud": ["mail", "uploads"]}, True),
    ({"audience": "uploads"}, {"aud": "uploads-test"}, False),
    ({"audience": "uploads"}, {"aud": []}, False),
    ({"audience": "uploads"}, {}, False),
    ({}, {"aud": "mail"}, False),
]


@pytest.mark.parametrize(("options", "claims", "valid"), ISSUED)
async def test_issuer_and_audience(by_secret: Verifier, options: dict[str, str], claims: dict[str, Any], valid: bool) -> None:
    shown = jwt.api_jws.encode(json.dumps({"sub": "alice", "exp": NOW + 60, **claims}).encode(), SECRET, "HS256")
    decision = await by_secret.ask(shown, **options)
    assert decision is not None and (decision.allowed, decision.status if not valid else 401) == (valid, 401)


@pytest.mark.parametrize(("claim", "value", "owner"), [("sub", "alice", "alice"), ("sub", 17, "17"), ("email", "a@b", "a@b")])
async def test_the_owner_is_in_the_claim_that_was_named(by_secret: Verifier, claim: str, value: object, owner: str) -> None:
    payload = {"exp": NOW + 60, "sub": "somebody", claim: value}
    decision = await by_secret.ask(jwt.api_jws.encode(json.dumps(payload).encode(), SECRET, "HS256"), owner_claim=claim)
    assert allowed(decision).owner == owner


@pytest.mark.parametrize("value", [None, "", "a\nb", "a" * 256, ["alice"], {"id": 1}, True, 1.5])
async def test_a_token_that_does_not_say_whose_it_is_is_refused(by_secret: Verifier, value: object) -> None:
    assert "whose it is in user" in denied(await by_secret.ask(token(user=value), owner_claim="user"), 401).message


BROKEN = [
    {"exp": None},
    {"exp": "soon"},
    {"exp": True},
    {"nbf": "soon"},
    {"tus:max_size": "5"},
    {"tus:max_size": -1},
    {"tus:max_size": 2**63},
    {"tus:max_size": 1.5},
    {"tus:max_size": True},
    {"tus:actions": 5},
    {"tus:actions": [5]},
    {"tus:actions": ["fly"]},
    {"tus:actions": "create fly"},
]


@pytest.mark.parametrize("claims", BROKEN, ids=str)
async def test_claims_that_make_no_sense_are_refused(by_secret: Verifier, claims: dict[str, Any]) -> None:
    payload = {name: value for name, value in {"sub": "alice", "exp": NOW + 60, **claims}.items() if value is not None}
    decision = denied(await by_secret.ask(jwt.api_jws.encode(json.dumps(payload).encode(), SECRET, "HS256")), 401)
    assert decision.headers["WWW-Authenticate"].isascii()


@pytest.mark.parametrize("time", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_times_that_are_no_numbers_are_refused(by_secret: Verifier, time: str) -> None:
    shown = jwt.api_jws.encode(f'{{"sub":"alice","exp":{time}}}'.encode(), SECRET, "HS256")
    denied(await by_secret.ask(shown), 401)


ACTIONS = [
    (None, set(Action), False),
    ([], set(), False),
    ("", set(), False),
    (["create", "append"], {Action.CREATE, Action.APPEND}, False),
    ("create append", {Action.CREATE, Action.APPEND}, False),
    (["any-owner"], set(Action), True),
    (["describe", "any-owner"], {Action.DESCRIBE}, True),
]


@pytest.mark.parametrize(("claim", "actions", "any_owner"), ACTIONS)
async def test_what_the_token_allows(by_secret: Verifier, claim: Any, actions: set[Action], any_owner: bool) -> None:
    shown = token(**{"tus:actions": claim, "tus:max_size": 1000})
    for action in Action:
        decision = await by_secret.ask(shown, action)
        if action in actions:
            assert (allowed(decision).any_owner, allowed(decision).max_size) == (any_owner, 1000)
        else:
            denied(decision, 403)


async def test_what_is_no_jwt_is_left_to_others(by_secret: Verifier) -> None:
    for other in ("", "static-token-static", "a.b", "a.b.c.d", "..", "ti1.a.b"):
        assert await by_secret.ask(other) is None
    assert await by_secret.build().recognize(request(), Action.CREATE, None) is None
