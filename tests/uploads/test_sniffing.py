"""The first bytes of an upload are looked at on their way, and what may not be uploaded gets no further."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tusd_py.datastore.memory import MemoryStore
from tusd_py.ports.body import BodyEnd, Sink
from tusd_py.protocol.metadata import Metadata
from tusd_py.protocol.refusals import TypeNotAllowed
from tusd_py.protocol.types import TypeRules
from tusd_py.protocol.upload import Upload
from tusd_py.testing.bodies import ScriptedBody
from tusd_py.uploads.sniffing import SNIFF_BYTES, TypeGate, read_prefix


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        self.data += data


class FirstByte:
    """Knows types by their first byte, and keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[bytes] = []

    def sniff(self, head: bytes) -> str | None:
        self.shown.append(head)
        return {b"P": "image/png", b"H": "text/html"}.get(head[:1])


RULES = TypeRules(types=("image/*",))
LONG = SNIFF_BYTES * 3
PNG = b"P" + bytes(LONG - 1)
HTML = b"H" + bytes(LONG - 1)


@pytest.fixture
def sniffer() -> FirstByte:
    return FirstByte()


@pytest.fixture
def gate(sniffer: FirstByte) -> TypeGate:
    return TypeGate(RULES, sniffer)


CUTS = [
    (),
    (1,),
    (SNIFF_BYTES,),
    (SNIFF_BYTES - 1,),
    (SNIFF_BYTES - 1, SNIFF_BYTES + 1),
    tuple(range(1, 60)),
    (1, SNIFF_BYTES * 2),
]


def write_in_pieces(sink: Sink, data: bytes, cuts: tuple[int, ...]) -> None:
    for start, end in pairwise((0, *cuts, len(data))):
        piece = bytearray(data[start:end])
        sink.write(memoryview(piece))
        piece[:] = bytes(len(piece))  # the buffer is the caller's again


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("length", [LONG, None])
def test_what_is_allowed_passes_whole(gate: TypeGate, sniffer: FirstByte, cuts: tuple[int, ...], length: int | None) -> None:
    kept = Kept()
    write_in_pieces(gate.watch(Upload(id="a", length=length), kept), PNG, cuts)
    assert kept.data == PNG
    assert sniffer.shown == [PNG[:SNIFF_BYTES]], "one look, at no more than that"


@pytest.mark.parametrize("cuts", CUTS)
def test_what_is_not_allowed_is_refused_before_it_is_known(gate: TypeGate, cuts: tuple[int, ...]) -> None:
    kept = Kept()
    with pytest.raises(TypeNotAllowed, match="looks like text/html"):
        write_in_pieces(gate.watch(Upload(id="a", length=LONG), kept), HTML, cuts)
    assert len(kept.data) < SNIFF_BYTES


@pytest.mark.parametrize("length", [1, 5, SNIFF_BYTES - 1, SNIFF_BYTES])
def test_a_small_file_is_judged_before_its_last_byte_is_passed_on(gate: TypeGate, length: int) -> None:
    kept = Kept()
    sink = gate.watch(Upload(id="a", length=length), kept)
    with pytest.raises(TypeNotAllowed):
        write_in_pieces(sink, HTML[:length], tuple(range(1, length)))
    assert len(kept.data) == length - 1


def test_nothing_of_it_is_passed_on_later_either(gate: TypeGate) -> None:
    kept = Kept()
    sink = gate.watch(Upload(id="a", length=10), kept)
    for _ in range(3):
        with pytest.raises(TypeNotAllowed):
            sink.write(HTML[:10])
    assert not kept.data


async def test_a_file_that_comes_in_several_requests(gate: TypeGate, sniffer: FirstByte) -> None:
    """Each body that begins among the first bytes is given what was there before."""
    data = MemoryStore()
    upload = Upload(id="a", length=LONG, storage=data.place("a"))
    writer = await data.create(upload)
    for end in (3, 10, LONG):
        assert gate.looks_at(upload)
        sink = gate.watch(upload, writer, await read_prefix(data, upload))
        sink.write(PNG[upload.offset : end])
        await writer.commit()
        upload = upload.evolve(offset=end)
    assert not gate.looks_at(upload)
    assert sniffer.shown == [PNG[:SNIFF_BYTES]]
    assert await read_prefix(data, upload) == PNG


async def test_a_refusal_in_the_second_request(gate: TypeGate) -> None:
    upload = Upload(id="a", length=6, offset=3)
    kept = Kept()
    with pytest.raises(TypeNotAllowed):
        gate.watch(upload, kept, HTML[:3]).write(HTML[3:6])
    assert not kept.data


async def test_a_body_ends_with_the_refusal(gate: TypeGate) -> None:
    body = ScriptedBody(HTML[:SNIFF_BYTES], BodyEnd.CUT)
    with pytest.raises(TypeNotAllowed):
        await body.pump(gate.watch(Upload(id="a", length=LONG), Kept()), LONG)


UNWATCHED = {
    "no types are asked for": (TypeRules(extensions=("png",)), Upload(id="a", length=9)),
    "the first bytes have been seen": (RULES, Upload(id="a", length=LONG, offset=SNIFF_BYTES)),
    "all bytes are there": (RULES, Upload(id="a", length=9, offset=9)),
    "no bytes will come": (RULES, Upload(id="a", length=0)),
    "a partial upload": (RULES, Upload(id="a", length=9, is_partial=True)),
}


@pytest.mark.parametrize("case", UNWATCHED)
def test_where_there_is_nothing_to_see_nothing_is_in_the_way(case: str, sniffer: FirstByte) -> None:
    rules, upload = UNWATCHED[case]
    gate = TypeGate(rules, sniffer)
    kept = Kept()
    assert not gate.looks_at(upload)
    assert gate.watch(upload, kept) is kept


def test_without_a_sniffer_only_declarations_count() -> None:
    gate = TypeGate(RULES, None)
    kept = Kept()
    assert gate.watch(Upload(id="a", length=9), kept) is kept
    with pytest.raises(TypeNotAllowed):
        gate.check_declared(Upload(id="a", length=9, metadata=Metadata({"filetype": b"text/html"})))


def test_a_partial_upload_declares_nothing_and_its_final_does() -> None:
    gate = TypeGate(TypeRules(extensions=("png",)), None)
    gate.check_declared(Upload(id="a", length=9, is_partial=True))
    with pytest.raises(TypeNotAllowed, match="the file has no name"):
        gate.check_declared(Upload(id="b", length=9, partials=("a",)))


@pytest.mark.parametrize(("first", "allowed"), [(PNG, True), (HTML, False), (b"", True)])
async def test_bytes_that_are_there_already(gate: TypeGate, sniffer: FirstByte, first: bytes, allowed: bool) -> None:
    data = MemoryStore()
    upload = Upload(id="a", length=len(first), offset=len(first), storage=data.place("a"))
    writer = await data.create(upload)
    writer.write(first)
    await writer.commit()
    content = await data.open_content(upload)
    final = Upload(id="final", length=len(first), partials=("a",))
    if allowed:
        await gate.check_content(content, final)
    else:
        with pytest.raises(TypeNotAllowed):
            await gate.check_content(content, final)
    assert all(len(head) <= SNIFF_BYTES for head in sniffer.shown)
