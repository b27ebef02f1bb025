"""What the machine has found, as the shortest sequence of requests that shows it."""

from __future__ import annotations

from tests.support.wire import OFFSET_STREAM, TusClient, checksum, chunked


def test_d04_p13_bytes_behind_the_declared_length_are_not_acknowledged(tus: TusClient) -> None:
    """A length that is what has come already finishes the upload; the chunked byte of the same PATCH was dropped with a 204."""
    path = tus.create(body=b"hello", upload_defer_length=1)
    with tus.connect() as connection:
        head = {"Upload-Offset": 5, "Upload-Length": 5, "Content-Type": OFFSET_STREAM, "Transfer-Encoding": "chunked"}
        connection.send_head("PATCH", path, head)
        connection.send(chunked(b"!"))
        assert connection.answer("PATCH").status == 413
    assert (tus.offset(path), tus.get(path).body) == (5, b"hello")


def test_d04_k03_the_digest_of_a_declaration_is_checked(tus: TusClient) -> None:
    for digest, status in ((checksum("sha1", b""), 204), (checksum("sha1", b"x"), 460)):
        path = tus.create(body=b"hello", upload_defer_length=1)
        answer = tus.patch(path, 5, b"", upload_length=5, upload_checksum=digest)
        assert answer.status == status
        assert tus.head(path).headers["upload-length"] == "5"


def test_d04_a_chunked_declaration_without_bytes(tus: TusClient) -> None:
    path = tus.create(body=b"hello", upload_defer_length=1)
    with tus.connect() as connection:
        head = {"Upload-Offset": 5, "Upload-Length": 5, "Content-Type": OFFSET_STREAM, "Transfer-Encoding": "chunked"}
        connection.send_head("PATCH", path, head)
        connection.send(chunked())
        answer = connection.answer("PATCH")
    assert (answer.status, answer.offset) == (204, 5)
