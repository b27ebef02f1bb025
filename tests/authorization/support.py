"""Requests, a clock that can be turned, and files with secrets."""

from __future__ import annotations

from pathlib import Path

from tusd_py.authorization.keys import Keys, new_key, parse_keys
from tusd_py.authorization.watched import WatchedFile
from tusd_py.ports.authorization import Decision
from tusd_py.protocol.exchange import HttpRequest
from tusd_py.protocol.upload import Upload

NOW = 1_800_000_000.0


class TurnedClock:
    """Stands still until it is turned."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def request(uri: str = "/files/", *, bearer: str | None = None, method: str = "POST", **headers: str) -> HttpRequest:
    """A request; keyword arguments are headers, with `_` for `-`."""
    fields = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    if bearer is not None:
        fields["Authorization"] = (f"Bearer {bearer}",)
    return HttpRequest(method=method, uri=uri, headers=fields)


def upload(upload_id: str = "abc", owner: str | None = None) -> Upload:
    return Upload(id=upload_id, length=10, owner=owner)


def secret_file(path: Path, *keys: str) -> Path:
    """A secret file with these keys, or with a new one."""
    path.write_text("".join(f"{key}\n" for key in keys or (new_key(),)))
    path.chmod(0o600)
    return path


def write(path: Path, content: str | bytes) -> None:
    """Write a small file, also from a coroutine: nobody else waits for the loop of a test."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def watched_keys(path: Path) -> WatchedFile[Keys]:
    """The keys of a secret file, looked at whenever they are asked for."""
    return WatchedFile(path, parse_keys, interval=0)


def allowed(decision: Decision | None) -> Decision:
    assert decision is not None and decision.allowed, decision
    return decision


def denied(decision: Decision | None, status: int) -> Decision:
    assert decision is not None and not decision.allowed and decision.status == status, decision
    return decision


def every_flip(token: str) -> list[str]:
    """The token with one bit of one byte turned over, at every byte; bytes that HTTP could not carry are left out."""
    raw = token.encode("latin-1")
    flips = (raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :] for at in range(len(raw)) for bit in range(8))
    return [flip.decode("latin-1") for flip in flips if not any(byte in flip for byte in b"\0\r\n")]
