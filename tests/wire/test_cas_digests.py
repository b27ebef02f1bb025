"""What clients and hooks are told of a content that is stored in chunks: its name and its digests."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from blake3 import blake3

from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import b64
from tests.wire.test_cas import TEXT, name_of, until_settled

BLAKE3, SHA256 = blake3(TEXT).hexdigest(), hashlib.sha256(TEXT)
DIGEST = f"sha-256=:{base64.b64encode(SHA256.digest()).decode()}:"

NOTE = """#!/bin/sh
cat > "$0.$TUS_ID.new" && mv "$0.$TUS_ID.new" "$0.$TUS_ID"
"""


def test_head_and_wishes_about_digests(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", "-cas=replace", "-events-backoff=50ms") as server:
        tus = server.client()
        path = tus.create(len(TEXT), TEXT)
        until_settled(server, "replace", path)
        head = tus.request("HEAD", path, tus=False)
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(TEXT)))
        assert (head.headers["etag"], head.headers["repr-digest"]) == (f'"{BLAKE3}"', DIGEST)
        part = tus.get(path, Range="bytes=0-9", Want_Repr_Digest="sha-512=9, sha-256=1")
        assert (part.status, part.headers["repr-digest"]) == (206, DIGEST), "of all the bytes"
        assert "repr-digest" not in tus.get(path, Want_Repr_Digest="sha-256=0").headers


def test_a_program_is_told_what_an_upload_has_become(tmp_path: Path) -> None:
    hook = tmp_path / "hooks" / "post-ingest"
    hook.parent.mkdir()
    hook.write_text(NOTE)
    hook.chmod(0o755)
    flags = (f"-hooks-dir={hook.parent}", "-hooks-enabled-events=post-ingest")
    with ServerProcess(tmp_path / "data", "-cas=replace", *flags) as server:
        tus = server.client()
        told = []
        for _ in range(2):
            path = tus.create(len(TEXT), TEXT, upload_metadata=f"object {b64('a/report')}")
            noted = hook.with_name(f"post-ingest.{name_of(path)}")
            until(noted.exists, 30)
            message = json.loads(noted.read_text())
            assert message["Type"] == "post-ingest"
            told.append(message["Event"]["Upload"]["Storage"])
    for number, storage in enumerate(told, 1):
        assert (storage["Object"], storage["Version"], storage["ETag"]) == ("a/report", str(number), f'"{BLAKE3}"')
        assert (storage["Blake3"], storage["Sha256"]) == (BLAKE3, SHA256.hexdigest())
    assert (told[0]["BytesNew"], told[1]["BytesNew"], told[1]["BytesStored"]) == (str(len(TEXT)), "0", "0")
    assert 0 < int(told[0]["BytesStored"]) < len(TEXT) / 2
