"""Who may change an upload: the newest request takes over, in one process or across them (P19, H08, H09, T04)."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server import ServerProcess
from tests.support.waiting import until, until_continue
from tests.support.wire import OFFSET_STREAM, Answer, Connection, TusClient, chunked
from tests.wire import stored

INTERRUPTED = "ERR_UPLOAD_INTERRUPTED: upload has been interrupted by another request for this upload resource\n"
CHUNK = {"Content-Type": OFFSET_STREAM}
ATTEMPTS = 200


@pytest.fixture(scope="module", params=[1, 2, 4], ids=["1-worker", "2-workers", "4-workers"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    args = [] if request.param == 1 else [f"-workers={request.param}"]
    with ServerProcess(tmp_path_factory.mktemp("locks"), *args) as running:
        yield running


def data_of(server: ServerProcess, path: str) -> Path:
    return server.upload_dir / path.rsplit("/", 1)[1]


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = [pid]
    for process in found:
        found.extend(child for child, parent in parents.items() if parent == process)
    return found


def inode_of(server: ServerProcess, connection: Connection) -> str | None:
    """The server's socket of this connection; None until some process has accepted it."""
    theirs, ours = f":{server.port:04X}", f":{connection.sock.getsockname()[1]:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(theirs) and fields[2].endswith(ours) and fields[9] != "0":
            return f"socket:[{fields[9]}]"
    return None


def worker_of(server: ServerProcess, connection: Connection) -> int:
    """The process that serves this connection."""
    found: list[int] = []

    def look() -> bool:
        inode = inode_of(server, connection)
        for pid in family(server.pid) if inode else ():
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    if os.readlink(descriptor) == inode:
                        found.append(pid)
                except FileNotFoundError:
                    continue
        return bool(found)

    until(look)
    return found[0]


def connect_elsewhere(stack: ExitStack, server: ServerProcess, connection: Connection) -> Connection:
    """A connection that another process serves, where there are several."""
    holder = worker_of(server, connection)
    for _ in range(ATTEMPTS):
        other = stack.enter_context(server.client().connect())
        if worker_of(server, other) != holder or not any("workers" in arg for arg in server.args):
            return other
    raise AssertionError(f"{ATTEMPTS} connections, all in one process")


def begin_patch(server: ServerProcess, connection: Connection, path: str, offset: int, length: int, body: bytes) -> None:
    """Send a PATCH of `length` bytes, of which only `body` for now; return when that much is in the file."""
    connection.send_head("PATCH", path, {**CHUNK, "Upload-Offset": offset, "Content-Length": length})
    connection.send(body)
    until(lambda: data_of(server, path).stat().st_size == offset + len(body))


def assert_interrupted(connection: Connection) -> None:
    answer = connection.answer("PATCH")
    assert (answer.status, answer.text) == (400, INTERRUPTED)
    assert connection.is_closed()


def test_h08_taken_over_by_head(server: ServerProcess) -> None:
    client = server.client()
    path = client.create(100)
    with ExitStack() as stack:
        holder = stack.enter_context(client.connect())
        begin_patch(server, holder, path, 0, 100, b"x" * 40)
        contender = connect_elsewhere(stack, server, holder)
        head = contender.request("HEAD", path)
        assert (head.status, head.offset) == (200, 40)
        assert_interrupted(holder)
        assert contender.request("HEAD", path).offset == 40
        rest = contender.request("PATCH", path, {**CHUNK, "Upload-Offset": 40}, b"y" * 60)
        assert (rest.status, rest.offset) == (204, 100)
    assert stored(server, path) == b"x" * 40 + b"y" * 60


def test_h08_offset_of_a_fast_sender_is_stable(server: ServerProcess) -> None:
    """Taken over while bytes are pouring in: the offset told is where the file ends from then on."""
    client = server.client()
    size = 1 << 30
    path = client.create(size)
    with ExitStack() as stack:
        holder = stack.enter_context(client.connect())
        contender = connect_elsewhere(stack, server, holder)
        holder.send_head("PATCH", path, {**CHUNK, "Upload-Offset": 0, "Content-Length": size})
        block = bytes(1 << 16)
        while data_of(server, path).stat().st_size < 1 << 20:
            holder.send(block)
        contender.send_head("HEAD", path)
        holder.sock.settimeout(0.2)
        try:
            while True:
                holder.send(block)
        except OSError:
            pass  # the server has stopped reading, or has closed
        offset = contender.answer("HEAD").offset
        assert offset is not None
        assert offset >= 1 << 20
        assert data_of(server, path).stat().st_size == offset
        assert client.offset(path) == offset
        assert contender.request("PATCH", path, {**CHUNK, "Upload-Offset": offset}, b"y").offset == offset + 1


def test_p19_taken_over_by_patch(server: ServerProcess) -> None:
    client = server.client()
    path = client.create(100)
    with ExitStack() as stack:
        holder = stack.enter_context(client.connect())
        begin_patch(server, holder, path, 0, 100, b"x" * 40)
        contender = connect_elsewhere(stack, server, holder)
        rest = contender.request("PATCH", path, {**CHUNK, "Upload-Offset": 40}, b"y" * 60)
        assert (rest.status, rest.offset) == (204, 100)
        assert_interrupted(holder)
    assert stored(server, path) == b"x" * 40 + b"y" * 60


def test_p19_contender_at_the_wrong_offset(server: ServerProcess) -> None:
    """It is refused, but who came last has the upload: the old request does not go on."""
    client = server.client()
    path = client.create(100)
    with ExitStack() as stack:
        holder = stack.enter_context(client.connect())
        begin_patch(server, holder, path, 0, 100, b"x" * 40)
        contender = connect_elsewhere(stack, server, holder)
        assert contender.request("PATCH", path, {**CHUNK, "Upload-Offset": 39}, b"y").status == 409
        assert_interrupted(holder)
    assert client.offset(path) == 40


def test_p19_many_patches_at_once(server: ServerProcess) -> None:
    """Twelve requests for the same bytes: never interleaved, and the file is one of them up to its end."""
    client = server.client()
    path = client.create(100_000)
    with ExitStack() as stack:
        connections = [stack.enter_context(client.connect()) for _ in range(12)]
        for number, connection in enumerate(connections):
            connection.send_head("PATCH", path, {**CHUNK, "Upload-Offset": 0, "Content-Length": 100_000})
            connection.send(bytes([number]) * 50_000)
        for number, connection in enumerate(connections):
            try:
                connection.send(bytes([number]) * 50_000)
            except OSError:
                continue
        answers: list[Answer] = []
        for connection in connections:
            try:
                answers.append(connection.answer("PATCH"))
            except ConnectionError:
                continue
    assert {answer.status for answer in answers} <= {204, 400, 409}
    assert [answer.offset for answer in answers if answer.status == 204] in ([], [100_000])
    kept = stored(server, path)
    assert client.offset(path) == len(kept)
    assert len(set(kept)) <= 1, "bytes of several requests"


def test_p19_many_clients_resume_one_upload(server: ServerProcess) -> None:
    """Eight clients that take the upload from each other, each bringing a few bytes at a time: all of them arrive, once."""
    data = random.Random(19).randbytes(1_000_000)
    path = server.client().create(len(data))

    def resume(seed: int) -> set[int]:
        """Go on until the upload is whole; returns the statuses seen."""
        client, pieces, statuses = server.client(), random.Random(seed), set()
        while (offset := client.offset(path)) < len(data):
            piece = data[offset : offset + pieces.randrange(1, 20_000)]
            with client.connect() as connection, suppress(ConnectionError):
                rest = len(data) - offset
                connection.send_head("PATCH", path, {**CHUNK, "Upload-Offset": offset, "Content-Length": rest})
                connection.send(piece)
                if len(piece) == rest:
                    statuses.add(connection.answer("PATCH").status)
        return statuses

    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(resume, range(8))) <= {204, 400, 409}
    assert stored(server, path) == data


def test_t04_taken_over_by_delete(server: ServerProcess) -> None:
    client = server.client()
    path = client.create(100)
    with ExitStack() as stack:
        holder = stack.enter_context(client.connect())
        begin_patch(server, holder, path, 0, 100, b"x" * 40)
        contender = connect_elsewhere(stack, server, holder)
        assert contender.request("DELETE", path).status == 204
        answer = holder.answer("PATCH")
        assert answer.status in (400, 404)
        assert holder.is_closed()
        assert contender.request("HEAD", path).status == 404
    assert not list(server.upload_dir.glob(data_of(server, path).name + "*"))


def test_taken_over_again_and_again(server: ServerProcess) -> None:
    client = server.client()
    path = client.create(20)
    with ExitStack() as stack:
        holder = stack.enter_context(client.connect())
        for offset in range(0, 20, 2):
            begin_patch(server, holder, path, offset, 20 - offset, bytes([offset, offset + 1]))
            contender = connect_elsewhere(stack, server, holder)
            assert contender.request("HEAD", path).offset == offset + 2
            if offset < 18:
                assert_interrupted(holder)
            holder = contender
    assert stored(server, path) == bytes(range(20))


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_anonymous_requests_do_not_interrupt(server: ServerProcess, method: str) -> None:
    client = server.client()
    path = client.create(100)
    with ExitStack() as stack:
        holder = stack.enter_context(client.connect())
        begin_patch(server, holder, path, 0, 100, b"x" * 40)
        contender = connect_elsewhere(stack, server, holder)
        answer = contender.request(method, path, tus=False)
        assert answer.status == 200
        assert (answer.offset == 40) if method == "HEAD" else (answer.body == b"x" * 40)
        holder.send(b"x" * 60)
        patched = holder.answer("PATCH")
        assert (patched.status, patched.offset) == (204, 100)


def test_other_uploads_are_not_concerned(server: ServerProcess) -> None:
    client = server.client()
    path, other = client.create(100), client.create(100)
    with client.connect() as holder:
        begin_patch(server, holder, path, 0, 100, b"x" * 40)
        assert client.offset(other) == 0
        assert client.patch(other, 0, b"y" * 100).status == 204
        holder.send(b"x" * 60)
        assert holder.answer("PATCH").offset == 100


def test_finished_uploads_never_wait(server: ServerProcess) -> None:
    """Neither for a download that nobody reads, nor for a PATCH of nothing that stays open; and they disturb neither."""
    client = server.client()
    size = 64 << 20
    path = client.create(size)
    assert client.patch(path, 0, bytes(size)).offset == size
    with ExitStack() as stack:
        reader = stack.enter_context(client.connect())
        reader.send_head("GET", path, tus=False)
        assert reader._until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        holder = stack.enter_context(client.connect())
        head = {**CHUNK, "Upload-Offset": size, "Transfer-Encoding": "chunked", "Expect": "100-continue"}
        holder.send_head("PATCH", path, head)
        until_continue(holder)
        contender = connect_elsewhere(stack, server, holder)
        assert contender.request("HEAD", path).offset == size
        assert contender.request("HEAD", path, tus=False).offset == size
        assert contender.request("GET", path, {"Range": "bytes=0-3"}, tus=False).body == bytes(4)
        holder.send(chunked())
        answer = holder.answer("PATCH")
        assert (answer.status, answer.offset) == (204, size)
        received = len(reader.buffer)
        while received < size:
            piece = reader.sock.recv(1 << 20)
            assert piece, "cut short"
            received += len(piece)


def test_download_goes_on_while_its_upload_is_deleted(server: ServerProcess) -> None:
    client = server.client()
    size = 16 << 20
    path = client.create(size)
    assert client.patch(path, 0, b"x" * size).offset == size
    with client.connect() as reader:
        reader.send_head("GET", path, tus=False)
        assert reader._until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert client.delete(path).status == 204
        received = len(reader.buffer)
        while received < size:
            piece = reader.sock.recv(1 << 20)
            assert piece, "cut short"
            assert piece == b"x" * len(piece)
            received += len(piece)
    assert client.get(path).status == 404


@pytest.mark.parametrize("workers", [2, 4])
def test_lock_of_a_killed_worker_is_free(start_server: StartServer, workers: int) -> None:
    server = start_server(f"-workers={workers}")
    client = server.client()
    path = client.create(100)
    with ExitStack() as stack:
        holder = stack.enter_context(client.connect())
        begin_patch(server, holder, path, 0, 100, b"x" * 40)
        contender = connect_elsewhere(stack, server, holder)
        os.kill(worker_of(server, holder), signal.SIGKILL)
        assert holder.is_closed()
        head = contender.request("HEAD", path)
        assert (head.status, head.offset) == (200, 40)
        assert contender.request("PATCH", path, {**CHUNK, "Upload-Offset": 40}, b"y" * 60).status == 204
    assert stored(server, path) == b"x" * 40 + b"y" * 60


def test_lock_of_a_killed_server_is_free(start_server: StartServer) -> None:
    first = start_server()
    path = first.client().create(100)
    with first.client().connect() as holder:
        begin_patch(first, holder, path, 0, 100, b"x" * 40)
        first.kill()
    client = start_server().client()
    assert client.offset(path) == 40
    assert client.patch(path, 40, b"y" * 60).status == 204


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_h09_holder_does_not_answer(start_server: StartServer, method: str) -> None:
    """A worker that is stopped can't let go: 423, which clients repeat, and never 5xx. Then all goes on."""
    server = start_server("-workers=2", "-acquire-lock-timeout=1s")
    client = server.client()
    path = client.create(100)
    with ExitStack() as stack:
        holder = stack.enter_context(client.connect())
        begin_patch(server, holder, path, 0, 100, b"x" * 40)
        contender = connect_elsewhere(stack, server, holder)
        stopped = worker_of(server, holder)
        os.kill(stopped, signal.SIGSTOP)
        try:
            headers: dict[str, object] = {**CHUNK, "Upload-Offset": 40} if method == "PATCH" else {}
            answer = contender.request(method, path, headers, b"y" if method == "PATCH" else None)
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert answer.status == 423
        assert method == "HEAD" or answer.text == "ERR_LOCK_TIMEOUT: failed to acquire lock before timeout\n"
        assert answer.offset is None
        again = stack.enter_context(client.connect())
        head = again.request("HEAD", path)
        assert (head.status, head.offset) == (200, 40)
        assert_interrupted(holder)
        assert again.request("PATCH", path, {**CHUNK, "Upload-Offset": 40}, b"y" * 60).offset == 100
    assert stored(server, path) == b"x" * 40 + b"y" * 60


def test_two_servers_on_one_directory(start_server: StartServer) -> None:
    first, second = start_server(), start_server()
    path = first.client().create(100)
    with first.client().connect() as one, second.client().connect() as two:
        begin_patch(first, one, path, 0, 100, b"x" * 40)
        assert second.client().offset(path) == 40
        assert_interrupted(one)
        begin_patch(second, two, path, 40, 60, b"y" * 10)
        rest = first.client().patch(path, 50, b"z" * 50)
        assert (rest.status, rest.offset) == (204, 100)
        assert_interrupted(two)
    assert stored(first, path) == b"x" * 40 + b"y" * 10 + b"z" * 50


def test_two_servers_terminate_and_concatenate(start_server: StartServer) -> None:
    first, second = start_server(), start_server()
    client, other = first.client(), second.client()
    done = client.create(6, b"hello ", upload_concat="partial")
    open_ = client.create(5, upload_concat="partial")
    final = client.create(upload_concat=f"final;{done} {open_}")
    assert other.patch(open_, 0, b"world").offset == 5
    until(lambda: client.head(final).offset == 11)
    assert other.get(final).body == b"hello world"
    with client.connect() as patch:
        path = client.create(9)
        begin_patch(first, patch, path, 0, 9, b"some")
        assert other.delete(path).status == 204
        assert patch.answer("PATCH").status in (400, 404)
    assert client.head(path).status == 404


def test_waiters_that_give_up_leave_nothing_behind(tus: TusClient, shared_server: ServerProcess) -> None:
    """Many contenders hang up before they are answered; the upload goes on as if they had never been."""
    path = tus.create(100)
    for offset in range(0, 100, 10):
        with ExitStack() as stack:
            holder = stack.enter_context(tus.connect())
            begin_patch(shared_server, holder, path, offset, 100 - offset, b"x" * 10)
            for _ in range(20):
                with tus.connect() as gone:
                    gone.send_head("HEAD", path)
        assert tus.offset(path) == offset + 10
    assert stored(shared_server, path) == b"x" * 100
