"""The protocol as a client meets it: real sockets, bytes and files. Test names carry the rows of the conformance checklist."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from tests.support.server import ServerProcess
from tests.support.wire import Answer, Connection

UPLOAD_ID = re.compile(r"^[0-9a-f]{32}$")


def assert_refused(answer: Answer, status: int, code: str) -> None:
    """The answer is a refusal in tusd's form, `CODE: message` and a newline, and carries no success headers."""
    assert (answer.status, answer.text.split(":")[0]) == (status, code), (answer.status, answer.body)
    assert re.fullmatch(rf"{code}: [^\n]+\n", answer.text), answer.body
    assert answer.headers["content-type"] == "text/plain; charset=utf-8", answer.all_headers
    assert answer.headers["content-length"] == str(len(answer.body)), answer.all_headers
    assert answer.headers["tus-resumable"] == "1.0.0", answer.all_headers
    assert "location" not in answer.headers, answer.all_headers


def assert_version_refused(answer: Answer) -> None:
    """The answer is the 412 that tells the version spoken here."""
    assert_refused(answer, 412, "ERR_UNSUPPORTED_VERSION")
    assert answer.headers["tus-version"] == "1.0.0", answer.all_headers


def stored(server: ServerProcess, path: str) -> bytes:
    """The bytes of an upload as they are on disk."""
    return (server.upload_dir / path.rstrip("/").rsplit("/", 1)[1]).read_bytes()


def uploads_on_disk(server: ServerProcess) -> set[str]:
    """Names in the upload directory, the server's own state (dot files) left out."""
    return {entry.name for entry in Path(server.upload_dir).iterdir() if not entry.name.startswith(".")}


def assert_ended_orderly(connection: Connection) -> None:
    """The server closes by FIN: no reset that could have destroyed an answer on its way, and not one byte more."""
    assert connection.buffer == b"", connection.buffer
    assert connection.sock.recv(1) == b""


def assert_in_sync(connection: Connection) -> None:
    """The connection takes another request, and what it answers is the answer to that."""
    answer = connection.request("OPTIONS", "/files/", tus=False)
    assert (answer.status, answer.headers.get("tus-version")) == (200, "1.0.0"), (answer.status, answer.all_headers)


def assert_closed_or_in_sync(connection: Connection) -> None:
    """The connection is over, or it takes another request; bytes of the last one are never taken for a request."""
    with contextlib.suppress(ConnectionError):
        assert_in_sync(connection)
