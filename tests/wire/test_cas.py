"""Content-addressed storage through the front door: what clients, hooks and operators see of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from blake3 import blake3

from tests.support.processes import processes_of
from tests.support.receiver import Receiver
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.watchdog import CONSTANTS
from tests.support.wire import TusClient, b64

MODES = ("keep", "replace")

SOON = "tusd_py_cas.serving.digesting.LOOK=0.1"
"""Digests of finals are missing for a moment only."""

RANDOM = random.Random("cas").randbytes(3 << 20)
TEXT = b"".join(b"line %d of a text that is easy to compress\n" % number for number in range(60_000))


def cas(directory: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TUSD_PY_")}
    command = [sys.executable, "-m", "tusd_py", "cas", *arguments, f"--upload-dir={directory}"]
    return subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False)


def server_in(directory: Path, mode: str, *flags: str) -> ServerProcess:
    return ServerProcess(directory, f"-cas={mode}", "-events-backoff=50ms", *flags, env={CONSTANTS: SOON})


def name_of(path: str) -> str:
    return path.rsplit("/", 1)[1]


def is_ingested(tus: TusClient, path: str) -> bool:
    """What is served from chunks has an ETag that does not depend on the upload."""
    etag = tus.request("GET", path, {"Range": "bytes=0-0"}, tus=False).headers.get("etag", "")
    return len(etag) == 66 and "-" not in etag  # the inode in a file's may make it as long


def until_ingested(server: ServerProcess, path: str) -> None:
    until(lambda: is_ingested(server.client(), path), 30, what=f"{path} is not ingested")


def until_settled(server: ServerProcess, mode: str, path: str) -> None:
    """Ingested and, where that is wanted, without a file of its own."""
    until_ingested(server, path)
    if mode == "replace":
        until(lambda: not (server.upload_dir / name_of(path)).exists(), 30, what=f"{path} keeps its file")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("data", [b"x", RANDOM, TEXT, bytes(5 << 20)], ids=["byte", "random", "text", "zeros"])
def test_what_was_sent_comes_back(tmp_path: Path, mode: str, data: bytes) -> None:
    with server_in(tmp_path / "data", mode) as server:
        tus = server.client()
        path = tus.create(len(data), data)
        until_settled(server, mode, path)
        got = tus.get(path)
        assert (got.status, got.body == data) == (200, True)
        assert got.headers["etag"] == f'"{blake3(data).hexdigest()}"'
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        assert got.headers["repr-digest"] == f"sha-256=:{digest}:"
        head = tus.head(path)
        assert (head.status, head.offset, head.headers["upload-length"]) == (200, len(data), str(len(data)))
        assert ((tmp_path / "data" / name_of(path)).exists()) is (mode == "keep")
        assert (tmp_path / "data" / f"{name_of(path)}.info").exists()
        assert tus.patch(path, len(data), b"").status == 204
        assert tus.patch(path, 0, b"y").status == 409


def test_an_empty_upload(tmp_path: Path) -> None:
    with server_in(tmp_path / "data", "replace") as server:
        path = server.client().create(0)
        until(lambda: not (tmp_path / "data" / name_of(path)).exists(), 30)
        got = server.client().get(path)
        assert (got.status, got.body, got.headers["content-length"]) == (200, b"", "0")


def test_ranges(tmp_path: Path) -> None:
    rng = random.Random("ranges")
    with server_in(tmp_path / "data", "replace") as server:
        tus = server.client()
        path = tus.create(len(RANDOM), RANDOM)
        until_settled(server, "replace", path)
        for _ in range(50):
            start = rng.randrange(len(RANDOM))
            end = rng.randrange(start, len(RANDOM))
            got = tus.get(path, Range=f"bytes={start}-{end}")
            assert got.status == 206 and got.body == RANDOM[start : end + 1]
            assert got.headers["content-range"] == f"bytes {start}-{end}/{len(RANDOM)}"
        etag = tus.get(path, Range="bytes=0-0").headers["etag"]
        assert tus.get(path, If_None_Match=etag).status == 304
        assert tus.get(path, Range="bytes=5-", If_Range=etag).status == 206
        assert tus.get(path, Range=f"bytes={len(RANDOM)}-").status == 416


def test_stored_frames_are_sent_as_they_are(tmp_path: Path) -> None:
    data = TEXT + RANDOM[:300_000] + TEXT
    with server_in(tmp_path / "data", "replace") as server:
        tus = server.client()
        path = tus.create(len(data), data)
        until_settled(server, "replace", path)
        got = tus.get(path, Accept_Encoding="gzip, zstd")
        assert (got.status, got.headers["content-encoding"]) == (200, "zstd")
        assert "accept-encoding" in ", ".join(value for name, value in got.all_headers if name == "vary").lower()
        assert "repr-digest" not in got.headers
        assert len(got.body) < len(data) / 2
        decoded = b""
        with zstandard.ZstdDecompressor().stream_reader(got.body, read_across_frames=True) as reader:
            while piece := reader.read(1 << 20):
                decoded += piece
        assert decoded == data
        plain = tus.get(path)
        assert plain.body == data and plain.headers["etag"] != got.headers["etag"]
        assert tus.get(path, Accept_Encoding="zstd", Range="bytes=0-9").body == data[:10]


def test_the_same_bytes_are_stored_once(tmp_path: Path) -> None:
    with server_in(tmp_path / "data", "replace") as server:
        tus = server.client()
        paths = [tus.create(len(RANDOM), RANDOM) for _ in range(4)]
        edited = RANDOM[: 1 << 20] + b"something new" + RANDOM[1 << 20 :]
        paths.append(tus.create(len(edited), edited))
        for path in paths:
            until_settled(server, "replace", path)
        stats = json.loads(cas(tmp_path / "data", "stats", "--json").stdout)
        assert stats["logical_bytes"] == 4 * len(RANDOM) + len(edited)
        assert stats["stored_bytes"] < 2.7 * len(RANDOM), "what the edit is in may be stored again"
        # one goes, the others stay
        assert tus.delete(paths[0]).status == 204
        assert tus.get(paths[0]).status == 404
        assert cas(tmp_path / "data", "gc", "--grace=0s").returncode == 0
        assert all(tus.get(path).body == RANDOM for path in paths[1:4])
        for path in paths[1:]:
            assert tus.delete(path).status == 204
        assert cas(tmp_path / "data", "gc", "--grace=0s").returncode == 0
        stats = json.loads(cas(tmp_path / "data", "stats", "--json").stdout)
        assert (stats["versions"], stats["chunks"], stats["stored_bytes"]) == (0, 0, 0)
        assert not [one for one in (tmp_path / "data/.tusd-py/cas/chunks").rglob("*") if one.is_file()]


def test_the_same_name_makes_versions(tmp_path: Path) -> None:
    with server_in(tmp_path / "data", "keep") as server:
        tus = server.client()
        for data in (b"first", b"second"):
            path = tus.create(len(data), data, upload_metadata=f"object {b64('reports/report')}")
            until_ingested(server, path)
        listed = cas(tmp_path / "data", "versions", "reports/report", "--json")
        assert listed.stdout.count(b'"version"') == 2
        assert cas(tmp_path / "data", "cat", "reports/report").stdout == b"second"
        assert cas(tmp_path / "data", "cat", "reports/report@1").stdout == b"first"


@pytest.mark.parametrize("told", [False, True], ids=["queue", "outbox"])
def test_versions_have_numbers_in_the_order_in_which_they_came(tmp_path: Path, told: bool) -> None:
    """However large they are: nobody waits between them."""
    with Receiver() as receiver:
        hooks = (f"-hooks-http={receiver.url}", "-hooks-enabled-events=post-ingest") if told else ()
        with server_in(tmp_path / "data", "keep", *hooks) as server:
            tus = server.client()
            contents = [RANDOM + TEXT, b"second", RANDOM, b"fourth", TEXT]
            paths = [tus.create(len(data), data, upload_metadata=f"object {b64('report')}") for data in contents]
            for path in paths:
                until_ingested(server, path)
    listed = cas(tmp_path / "data", "versions", "report", "--json").stdout.splitlines()
    assert [json.loads(line)["upload"] for line in listed] == [name_of(path) for path in paths]
    assert cas(tmp_path / "data", "cat", "report@2").stdout == b"second"


# Concatenation


@pytest.mark.parametrize("mode", MODES)
def test_a_final_of_ingested_partials(tmp_path: Path, mode: str) -> None:
    pieces = [RANDOM[start : start + (700 << 10)] for start in range(0, 2800 << 10, 700 << 10)]
    with server_in(tmp_path / "data", mode) as server:
        tus = server.client()
        paths = [tus.create(len(piece), piece, upload_concat="partial") for piece in pieces]
        for path in paths:
            until_settled(server, mode, path)
        before = json.loads(cas(tmp_path / "data", "stats", "--json").stdout)
        final = tus.create(upload_concat=f"final;{' '.join(paths)}")
        assert tus.get(final).body == b"".join(pieces)
        until_settled(server, mode, final)
        after = json.loads(cas(tmp_path / "data", "stats", "--json").stdout)
        assert all(after[key] == before[key] for key in ("stored_bytes", "chunks")), "stored bytes are not touched"
        got = tus.get(final, Range="bytes=700000-800000")
        assert got.body == b"".join(pieces)[700_000:800_001]
        head = tus.head(final)
        assert head.offset == sum(map(len, pieces)) and head.headers["upload-concat"].startswith("final;")
        for path in paths:
            assert tus.delete(path).status == 204
        assert cas(tmp_path / "data", "gc", "--grace=0s").returncode == 0
        assert tus.get(final).body == b"".join(pieces), "the final lives without its partials"
        expected = base64.b64encode(hashlib.sha256(b"".join(pieces)).digest()).decode()
        until(lambda: tus.get(final, Range="bytes=0-0").headers.get("repr-digest") == f"sha-256=:{expected}:", 30)


@pytest.mark.parametrize("mode", MODES)
def test_a_final_at_once(tmp_path: Path, mode: str) -> None:
    """As clients do it: behind the last partial, which nobody can have ingested yet."""
    with server_in(tmp_path / "data", mode) as server:
        tus = server.client()
        for count in (1, 2, 5):
            pieces = [RANDOM[n * 100_000 : n * 100_000 + 300_000] for n in range(count)]
            paths = [tus.create(len(piece), piece, upload_concat="partial") for piece in pieces]
            final = tus.create(upload_concat=f"final;{' '.join(paths)}")
            assert tus.get(final).body == b"".join(pieces)
            until_settled(server, mode, final)
            assert tus.get(final).body == b"".join(pieces)


# Hooks


def test_hooks_hear_of_it_and_have_the_file_until_then(tmp_path: Path) -> None:
    with Receiver(failing=1.0) as receiver:
        hooks = (f"-hooks-http={receiver.url}", "-hooks-http-retry=0", "-hooks-enabled-events=post-finish,post-ingest")
        with server_in(tmp_path / "data", "replace", *hooks, "-events-max-backoff=100ms") as server:
            tus = server.client()
            path = tus.create(len(TEXT), TEXT)
            until_ingested(server, path)
            until(lambda: len(receiver.told) > 2)
            assert (tmp_path / "data" / name_of(path)).read_bytes() == TEXT, "a hook may still want it"
            receiver.failing = 0.0
            until(lambda: any(one.type == "post-ingest" and one.accepted for one in receiver.told), 30)
            until_settled(server, "replace", path)
        kinds = [one.type for one in receiver.told if one.accepted]
        assert kinds == ["post-finish", "post-ingest"]


# Damage


def chunk_files(directory: Path) -> list[Path]:
    return [one for one in (directory / ".tusd-py/cas/chunks").rglob("*") if one.is_file()]


def damage(file: Path) -> None:
    """More than one bit: in a compressed form a few have no meaning."""
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(byte ^ 0xFF for byte in data[middle : middle + 8])
    file.write_bytes(data)


@pytest.mark.parametrize("data", [RANDOM, TEXT], ids=["raw", "compressed"])
def test_damage_is_an_error_and_never_wrong_bytes(tmp_path: Path, data: bytes) -> None:
    with server_in(tmp_path / "data", "replace") as server:
        server.tolerate = ("Traceback", "unexpected failure")
        tus = server.client()
        path = tus.create(len(data), data)
        until_settled(server, "replace", path)
        damaged = max(chunk_files(tmp_path / "data"), key=lambda one: one.stat().st_size)
        damage(damaged)
        try:
            got = tus.get(path)
        except ConnectionError:
            pass
        else:
            assert got.status == 500
        until(lambda: damaged.name[:64] in server.log)
        metrics = tus.request("GET", "/metrics", tus=False).text
        assert "tusd_py_cas_damaged_chunks_total 1" in metrics or "tusd_py_cas_damaged_chunks_total 1.0" in metrics
        assert cas(tmp_path / "data", "verify").returncode == 1
        # the same bytes once more heal it
        again = tus.create(len(data), data)
        until_settled(server, "replace", again)
        assert tus.get(path).body == data
        assert cas(tmp_path / "data", "verify").returncode == 0


# Turning it on and off


def test_what_was_there_before_is_taken_in(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        path = server.client().create(len(TEXT), TEXT)
        unfinished = server.client().create(9, b"abc")
        server.terminate()
    with server_in(tmp_path / "data", "replace") as server:
        until_settled(server, "replace", path)
        tus = server.client()
        assert tus.get(path).body == TEXT
        assert tus.offset(unfinished) == 3 and tus.patch(unfinished, 3, b"defghi").status == 204
        until_settled(server, "replace", unfinished)
        assert tus.get(unfinished).body == b"abcdefghi"
        server.terminate()
    with ServerProcess(tmp_path / "data", tolerate=("Traceback", "unexpected failure")) as server:
        tus = server.client()
        assert tus.offset(path) == len(TEXT)
        assert tus.get(path).status == 500
        until(lambda: "turn that extension on" in server.log)
    restored = cas(tmp_path / "data", "export", "--restore")
    assert restored.returncode == 0, restored.stderr
    assert (tmp_path / "data" / name_of(path)).read_bytes() == TEXT
    with ServerProcess(tmp_path / "data") as server:
        assert server.client().get(path).body == TEXT


def test_off_nothing_changes(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        tus = server.client()
        path = tus.create(5, b"hello")
        got = tus.get(path, Accept_Encoding="zstd")
        assert got.body == b"hello" and name_of(path) in got.headers["etag"]
        assert "repr-digest" not in got.headers and "content-encoding" not in got.headers
        assert not (tmp_path / "data/.tusd-py/cas").exists() and not (tmp_path / "data/.tusd-py/events.db").exists()


def test_files_are_kept_where_events_are_not(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="expected -cas=keep or -events=durable"):
        server_in(tmp_path / "data", "replace", "-events=fire-and-forget").start()
    with server_in(tmp_path / "data", "keep", "-events=fire-and-forget") as server:
        tus = server.client()
        path = tus.create(len(TEXT), TEXT)
        until_ingested(server, path)
        assert tus.get(path).body == TEXT


def test_an_upload_that_was_removed_by_hand_is_forgotten(tmp_path: Path) -> None:
    """As programs do that clean an upload directory up."""
    with server_in(tmp_path / "data", "replace") as server:
        tus = server.client()
        paths = [tus.create(len(data), data) for data in (TEXT, RANDOM)]
        for path in paths:
            until_ingested(server, path)
            until(lambda path=path: not (tmp_path / "data" / name_of(path)).exists())  # type: ignore[misc]
    (tmp_path / "data" / f"{name_of(paths[0])}.info").unlink()
    with server_in(tmp_path / "data", "replace", "-cas-gc-grace=0s") as server:
        until(lambda: "versions of uploads that are gone have been dropped" in server.log)
        assert server.client().get(paths[1]).body == RANDOM
    listed = cas(tmp_path / "data", "ls", "--json").stdout.decode()
    assert name_of(paths[1]) in listed and name_of(paths[0]) not in listed


def test_what_waits_is_shown(tmp_path: Path) -> None:
    with server_in(tmp_path / "data", "keep") as server:
        tus = server.client()
        path = tus.create(len(TEXT), TEXT)
        until_ingested(server, path)
        shown = tus.request("GET", "/metrics", tus=False).text
        assert "\ntusd_py_cas_queue 0.0\n" in shown and "\ntusd_py_cas_queue_oldest_seconds 0.0\n" in shown


def test_several_workers(tmp_path: Path) -> None:
    with server_in(tmp_path / "data", "replace", "-workers=2") as server:
        tus = server.client()
        sources = [RANDOM[n * 50_000 : n * 50_000 + 400_000] for n in range(12)]
        paths = [tus.create(len(source), source) for source in sources]
        for path, source in zip(paths, sources, strict=True):
            until_settled(server, "replace", path)
            assert tus.get(path).body == source


@pytest.mark.parametrize("told", [False, True], ids=["by the queue", "by the outbox"])
def test_a_server_ends_in_time_while_another_program_keeps_the_index_locked(tmp_path: Path, told: bool) -> None:
    """All that is to be closed is closed, and what was under way is done by the next one."""
    hooks = ("-hooks-http=http://127.0.0.1:9/", "-hooks-enabled-events=post-ingest") if told else ()
    with server_in(tmp_path, "keep", *hooks) as server:
        path = server.client().create(len(TEXT))
        other = sqlite3.connect(tmp_path / ".tusd-py/cas/index.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        server.client().patch(path, 0, TEXT)
        until(lambda: len(processes_of(server.pid)) > 1, what="no process that takes it in")
        assert server.terminate() == 0
        assert "ShutdownComplete" in server.log and "ApplicationCloseTimeout" not in server.log
    other.close()
    with server_in(tmp_path, "keep") as server:
        until_ingested(server, path)
