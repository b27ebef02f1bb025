"""The looks of answers that hooks have a say in."""

from __future__ import annotations

from tusd_py.asgi.shaping import completed, refused, shaped
from tusd_py.protocol.exchange import HttpResponse
from tusd_py.protocol.refusals import UploadRejected

EXTRA = [(b"tus-resumable", b"1.0.0"), (b"vary", b"Origin"), (b"access-control-allow-origin", b"http://page.test")]


def test_what_a_hook_sets_is_there_once() -> None:
    response = HttpResponse(headers={"Access-Control-Allow-Origin": "*", "Vary": "Cookie", "Tus-Resumable": "9"})
    for _, head, _ in (shaped(201, [(b"location", b"/a")], response), refused(UploadRejected().shaped(response))):
        names = [name for name, _ in completed(head, EXTRA)]
        assert names.count(b"access-control-allow-origin") == names.count(b"tus-resumable") == 1
        assert (b"access-control-allow-origin", b"*") in completed(head, EXTRA)
        assert (b"tus-resumable", b"1.0.0") in completed(head, EXTRA)
        assert names.count(b"vary") == 2, "each of which says more"


def test_a_hook_does_not_move_an_upload() -> None:
    response = HttpResponse(status=200, body="made", headers={"Location": "/b", "Upload-Offset": "9", "Content-Length": "1"})
    assert shaped(201, [(b"location", b"/a")], response) == (
        200,
        [(b"location", b"/a"), (b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"4")],
        b"made",
    )


def test_no_content_has_no_body() -> None:
    status, head, body = shaped(204, [], HttpResponse(body="made"))
    assert (status, body) == (204, b"") and b"content-length" not in dict(head)
