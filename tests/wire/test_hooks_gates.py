"""Hooks that are asked before something happens, through a server: what the client sees, and what is kept, each way alike."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.support.server import ServerProcess
from tests.support.wire import OFFSET_STREAM, Answer, path_of
from tests.wire import assert_refused, stored, uploads_on_disk
from tests.wire.hooking import WAYS, Hooking


@pytest.fixture(scope="module", params=WAYS)
def hooking(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Hooking]:
    directory = tmp_path_factory.mktemp("hooks")
    (directory / "told").mkdir()
    with WAYS[request.param](directory) as hooking:
        hooking.way = request.param
        yield hooking


@pytest.fixture(scope="module")
def serving(hooking: Hooking, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    enabled = "-hooks-enabled-events=pre-create,pre-finish,pre-terminate"
    with ServerProcess(
        tmp_path_factory.mktemp("gates") / "data", *hooking.arguments, enabled, env=hooking.environment
    ) as serving:
        yield serving


@pytest.fixture
def hooks(hooking: Hooking) -> Hooking:
    """As if they had never been asked. Those that are on are asked while a request waits: none comes late."""
    hooking.forget()
    return hooking


@pytest.fixture
def server(serving: ServerProcess) -> ServerProcess:
    """As if it had never been sent anything."""
    for name in uploads_on_disk(serving):
        path = serving.upload_dir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return serving


def create(server: ServerProcess, length: int = 5, body: bytes | None = None, **headers: object) -> Answer:
    pairs = {"Upload-Length": length, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body is not None:
        pairs["Content-Type"] = OFFSET_STREAM
    return server.client().request("POST", "/files/", pairs, body)


# pre-create


def test_an_answer_that_says_nothing_changes_nothing(server: ServerProcess, hooks: Hooking) -> None:
    answer = create(server, body=b"hello", Upload_Metadata="filename YQ==")
    assert (answer.status, answer.body) == (201, b"")
    assert stored(server, answer.headers["location"]) == b"hello"
    assert hooks.kinds() == ["pre-create", "pre-finish"]
    assert hooks.told()[0]["Event"]["Upload"]["MetaData"] == {"filename": "a"}
    assert "EventID" not in hooks.told()[0]


def test_a_rejected_creation_stores_nothing(server: ServerProcess, hooks: Hooking) -> None:
    hooks.answer("pre-create", RejectUpload=True)
    answer = create(server, body=b"hello")
    assert_refused(answer, 400, "ERR_UPLOAD_REJECTED")
    assert answer.text == "ERR_UPLOAD_REJECTED: upload creation has been rejected by server\n"
    assert uploads_on_disk(server) == set()
    assert hooks.kinds() == ["pre-create"]


def test_a_rejection_looks_as_the_hook_wants(server: ServerProcess, hooks: Hooking) -> None:
    hooks.answer(
        "pre-create",
        RejectUpload=True,
        HTTPResponse={
            "StatusCode": 402,
            "Body": "pay <first>, grün\n",
            "Header": {"X-Price": "5", "Content-Type": "a/b"},
        },
    )
    answer = create(server)
    assert (answer.status, answer.text) == (402, "pay <first>, grün\n")
    assert (answer.headers["x-price"], answer.headers["content-type"]) == ("5", "a/b")
    assert answer.headers["content-length"] == str(len(answer.body))
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("response", "status", "body"),
    [
        ({"StatusCode": 418}, 418, b"ERR_UPLOAD_REJECTED: upload creation has been rejected by server\n"),
        ({"Body": "no"}, 400, b"no"),
    ],
)
def test_each_part_of_a_rejection_by_itself(
    server: ServerProcess, hooks: Hooking, response: dict[str, object], status: int, body: bytes
) -> None:
    hooks.answer("pre-create", RejectUpload=True, HTTPResponse=response)
    answer = create(server)
    assert (answer.status, answer.body) == (status, body)


def test_a_creation_looks_as_the_hook_wants(server: ServerProcess, hooks: Hooking) -> None:
    hooks.answer(
        "pre-create", HTTPResponse={"StatusCode": 200, "Body": "welcome", "Header": {"X-Id": "7", "Location": "elsewhere"}}
    )
    answer = create(server)
    assert (answer.status, answer.body, answer.headers["x-id"]) == (200, b"welcome", "7")
    assert answer.headers["location"].startswith(server.url), "the server's own word"
    assert server.client().offset(path_of(answer.headers["location"])) == 0


def test_an_id_of_the_hooks(server: ServerProcess, hooks: Hooking) -> None:
    hooks.answer("pre-create", ChangeFileInfo={"ID": "project/x-1"})
    answer = create(server, body=b"he")
    assert answer.headers["location"] == server.url + "project/x-1"
    assert server.client().patch("/files/project/x-1", 2, b"llo").status == 204
    assert (server.upload_dir / "project" / "x-1").read_bytes() == b"hello"
    again = create(server)
    assert_refused(again, 409, "ERR_UPLOAD_EXISTS")
    assert (server.upload_dir / "project" / "x-1").read_bytes() == b"hello"


@pytest.mark.parametrize("upload_id", ["../out", "a/../../out", "/etc/x", "a b", "x.info", ".tusd-py/x"])
def test_an_id_that_cannot_be(server: ServerProcess, hooks: Hooking, upload_id: str) -> None:
    hooks.answer("pre-create", ChangeFileInfo={"ID": upload_id})
    assert_refused(create(server, body=b"hello"), 500, "ERR_INTERNAL_SERVER_ERROR")
    assert uploads_on_disk(server) == set()


def test_metadata_of_the_hooks(server: ServerProcess, hooks: Hooking) -> None:
    hooks.answer("pre-create", ChangeFileInfo={"MetaData": {"filename": "b.txt", "grün": "ä"}})
    path = path_of(create(server, Upload_Metadata="filename YQ==,other").headers["location"])
    found = server.client().head(path).headers["upload-metadata"]
    assert set(found.split(",")) == {"filename Yi50eHQ=", "grün w6Q="}


def test_metadata_can_be_erased(server: ServerProcess, hooks: Hooking) -> None:
    if hooks.way == "grpc":
        return  # its messages can't say so
    hooks.answer("pre-create", ChangeFileInfo={"MetaData": {}})
    path = path_of(create(server, Upload_Metadata="filename YQ==").headers["location"])
    assert "upload-metadata" not in server.client().head(path).headers


def test_a_path_of_the_hooks(server: ServerProcess, hooks: Hooking) -> None:
    hooks.answer("pre-create", ChangeFileInfo={"Storage": {"Path": "sub/dir/file.bin"}})
    path = path_of(create(server, body=b"he").headers["location"])
    assert server.client().patch(path, 2, b"llo").status == 204
    assert (server.upload_dir / "sub/dir/file.bin").read_bytes() == b"hello"
    assert server.client().get(path).body == b"hello"
    assert server.client().delete(path).status == 204
    assert not (server.upload_dir / "sub/dir/file.bin").exists()


@pytest.mark.parametrize("where", ["../out.bin", "/etc/out.bin", "sub/../../out.bin"])
def test_a_path_outside_of_the_directory(server: ServerProcess, hooks: Hooking, where: str) -> None:
    hooks.answer("pre-create", ChangeFileInfo={"Storage": {"Path": where}})
    assert_refused(create(server, body=b"hello"), 500, "ERR_INTERNAL_SERVER_ERROR")
    assert not (server.upload_dir / where).exists()


def test_a_failure_refuses_and_says_why(server: ServerProcess, hooks: Hooking) -> None:
    hooks.fail("pre-create", "the database is down")
    answer = create(server, body=b"hello")
    assert_refused(answer, 500, "ERR_INTERNAL_SERVER_ERROR")
    assert "the database is down" in answer.text
    assert uploads_on_disk(server) == set()
    hooks.recover("pre-create")
    assert create(server).status == 201


# pre-finish


def test_the_answer_to_the_last_byte_looks_as_the_hook_wants(server: ServerProcess, hooks: Hooking) -> None:
    hooks.answer("pre-finish", HTTPResponse={"StatusCode": 200, "Body": "stored", "Header": {"X-Number": "7"}})
    path = server.client().create(5)
    answer = server.client().patch(path, 0, b"hel")
    assert (answer.status, answer.body) == (204, b"")
    answer = server.client().patch(path, 3, b"lo")
    assert (answer.status, answer.body, answer.headers["x-number"], answer.offset) == (200, b"stored", "7", 5)


def test_a_body_needs_a_status_that_has_one(server: ServerProcess, hooks: Hooking) -> None:
    hooks.answer("pre-finish", HTTPResponse={"Body": "stored", "Header": {"X-Number": "7"}})
    answer = server.client().patch(server.client().create(5), 0, b"hello")
    assert (answer.status, answer.body, answer.headers["x-number"]) == (204, b"", "7")
    answer = create(server, body=b"hello")
    assert (answer.status, answer.body, answer.headers["x-number"]) == (201, b"stored", "7")


def test_an_empty_upload_and_a_final_are_asked_about_too(server: ServerProcess, hooks: Hooking) -> None:
    hooks.answer("pre-finish", HTTPResponse={"Header": {"X-Number": "7"}})
    assert create(server, 0).headers["x-number"] == "7"
    tus = server.client()
    parts = [tus.create(3, body=text, upload_concat="partial") for text in (b"abc", b"def")]
    final = tus.request("POST", "/files/", {"Upload-Concat": f"final;{' '.join(parts)}"})
    assert final.status == 201
    told = [message["Event"]["Upload"] for message in hooks.wait("pre-finish", 4)]
    assert [(each["IsPartial"], each["IsFinal"], each["Size"]) for each in told] == [
        (False, False, 0), (True, False, 3), (True, False, 3), (False, True, 6)
    ]  # fmt: skip


def test_a_refused_finish_lasts(server: ServerProcess, hooks: Hooking) -> None:
    hooks.answer("pre-finish", HTTPResponse={"StatusCode": 422, "Body": "this is no picture\n"})
    tus = server.client()
    path = tus.create(5)
    answer = tus.patch(path, 0, b"hello")
    assert (answer.status, answer.text) == (422, "this is no picture\n")
    for again in (tus.head(path), tus.patch(path, 5, b"")):
        assert again.status == 410
    assert len(hooks.told("pre-finish")) == 1


def test_a_failed_finish_is_asked_about_again(server: ServerProcess, hooks: Hooking) -> None:
    hooks.fail("pre-finish", "the scanner is down")
    tus = server.client()
    path = tus.create(5)
    answer = tus.patch(path, 0, b"hello")
    assert_refused(answer, 500, "ERR_INTERNAL_SERVER_ERROR")
    assert "the scanner is down" in answer.text
    head = tus.head(path)
    assert head.status != 200 or head.offset != 5, "it does not look finished"
    hooks.recover("pre-finish")
    answers = [tus.head(path), tus.patch(path, 5, b""), tus.head(path)]
    assert (answers[-1].status, answers[-1].offset) == (200, 5), [(each.status, each.body) for each in answers]
    assert len(hooks.told("pre-finish")) >= 2
    assert tus.get(path).body == b"hello"


# pre-terminate


def test_a_termination_is_asked_about(server: ServerProcess, hooks: Hooking) -> None:
    hooks.answer("pre-terminate", HTTPResponse={"StatusCode": 200, "Body": "gone", "Header": {"X-Number": "7"}})
    path = server.client().create(5)
    answer = server.client().delete(path)
    assert (answer.status, answer.body, answer.headers["x-number"]) == (200, b"gone", "7")
    assert server.client().head(path).status == 404


def test_a_rejected_termination_keeps_the_upload(server: ServerProcess, hooks: Hooking) -> None:
    path = server.client().create(5, body=b"hel")
    hooks.answer("pre-terminate", RejectTermination=True, HTTPResponse={"Header": {"X-Why": "held"}})
    answer = server.client().delete(path)
    if hooks.way == "grpc":  # as with tusd, whose messages can't say so
        assert answer.status == 204
        return
    assert_refused(answer, 400, "ERR_UPLOAD_TERMINATION_REJECTED")
    assert answer.headers["x-why"] == "held"
    assert server.client().offset(path) == 3


def test_a_failed_question_keeps_the_upload(server: ServerProcess, hooks: Hooking) -> None:
    path = server.client().create(5, body=b"hel")
    hooks.fail("pre-terminate", "who knows")
    answer = server.client().delete(path)
    assert_refused(answer, 500, "ERR_INTERNAL_SERVER_ERROR")
    assert "who knows" in answer.text
    assert server.client().offset(path) == 3
