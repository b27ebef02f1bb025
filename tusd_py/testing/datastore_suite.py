"""The promises of `tusd_py.ports.datastore`, a test each. Bytes are checked by reading them back through another opening."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
from collections.abc import Sequence

import pytest

from tusd_py.ports.datastore import Content, DataStore
from tusd_py.ports.failures import StorageFailure, UploadExists, UploadNotFound
from tusd_py.protocol.upload import Upload

__all__ = ["DataStoreSuite"]

LARGE = 3 * 1024 * 1024 + 7
"""More bytes than any adapter should keep in memory for a writer, and no power of two."""


TEXT = b"".join(b"line %d of a text that can be compressed\n" % number for number in range(60_000))
CONTENTS = {"nothing": b"", "a byte": b"x", "text": TEXT, "noise": random.Random(2026).randbytes(LARGE)}

ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}
"""The digests that a store may know, by their names for RFC 9530, as `hashlib` knows them."""


async def read_on(content: Content, step: int) -> bytes:
    """All of it, as downloads read it."""
    found = []
    offset = 0
    while piece := await content.read(offset, step):
        assert len(piece) <= step
        found.append(piece)
        offset += len(piece)
    return b"".join(found)


def decoded(coding: str, data: bytes) -> bytes:
    """What any client makes of it, piece by piece, frame by frame."""
    assert coding == "zstd", f"this suite can't decode {coding}"
    import zstandard

    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()


class DataStoreSuite:
    """Override `store` with a fixture that gives an empty store."""

    @pytest.fixture
    def store(self) -> DataStore:
        raise NotImplementedError("an adapter's test class overrides this fixture")

    # Helpers: what the use cases do.

    async def make(self, store: DataStore, upload_id: str, data: bytes = b"") -> Upload:
        """An upload that holds `data`."""
        upload = Upload(id=upload_id, length=None)
        upload = upload.evolve(storage=store.place(upload.id))
        writer = await store.create(upload)
        await writer.close()
        return await self.append(store, upload, data)

    async def append(self, store: DataStore, upload: Upload, data: bytes, *, verified: bool = True) -> Upload:
        writer = await store.open_writer(upload, verified=verified)
        try:
            writer.write(data)
            await writer.commit()
        finally:
            await writer.close()
        return upload.evolve(offset=upload.offset + len(data))

    async def read(self, store: DataStore, upload: Upload) -> bytes:
        content = await store.open_content(upload)
        try:
            return await read_on(content, content.size + 1)
        finally:
            await content.close()

    async def finish(self, store: DataStore, upload: Upload) -> Upload:
        """The record of an upload that has all its bytes, once the store has done with it whatever it does with such uploads.
        Override it for a store that does anything."""
        return upload.evolve(length=upload.offset)

    async def put_together(
        self, store: DataStore, final: Upload, partials: Sequence[Upload], *, durable: bool = True
    ) -> Upload:
        """The record of a final that holds the bytes of `partials`."""
        storage = await store.concatenate(final, partials, durable=durable)
        size = sum(partial.offset for partial in partials)
        return final.evolve(length=size, offset=size, storage=final.storage if storage is None else storage)

    # create

    async def test_a_new_upload_is_empty(self, store: DataStore) -> None:
        assert await self.read(store, await self.make(store, "new")) == b""

    async def test_creating_again_fails_and_leaves_the_upload_alone(self, store: DataStore) -> None:
        upload = await self.make(store, "same", b"precious")
        with pytest.raises(UploadExists):
            await store.create(Upload(id="same", length=1))
        assert await self.read(store, upload) == b"precious"

    async def test_an_id_may_have_slashes(self, store: DataStore) -> None:
        upload = await self.make(store, "project/2024/video", b"bytes")
        assert await self.read(store, upload) == b"bytes"

    async def test_uploads_do_not_mix(self, store: DataStore) -> None:
        names = [f"upload{number}" for number in range(20)]
        uploads = await asyncio.gather(*(self.make(store, name, name.encode() * 100) for name in names))
        for name, upload in zip(names, uploads, strict=True):
            assert await self.read(store, upload) == name.encode() * 100

    # Writer

    @pytest.mark.parametrize("verified", [True, False])
    async def test_bytes_follow_bytes(self, store: DataStore, verified: bool) -> None:
        upload = await self.make(store, "appended")
        for piece in (b"one", b"", b"two", b"three"):
            upload = await self.append(store, upload, piece, verified=verified)
        assert await self.read(store, upload) == b"onetwothree"

    @pytest.mark.parametrize("verified", [True, False])
    async def test_every_kind_of_buffer_is_taken(self, store: DataStore, verified: bool) -> None:
        upload = await self.make(store, "buffers")
        writer = await store.open_writer(upload, verified=verified)
        reused = bytearray(b"bytearray ")
        writer.write(b"bytes ")
        writer.write(reused)
        reused[:] = b"overwritten"  # the buffer is the caller's again
        writer.write(memoryview(b"a memoryview")[2:])
        await writer.commit()
        await writer.close()
        assert await self.read(store, upload) == b"bytes bytearray memoryview"

    @pytest.mark.parametrize("verified", [True, False])
    async def test_position_is_behind_the_last_byte(self, store: DataStore, verified: bool) -> None:
        upload = await self.make(store, "position", b"12345")
        writer = await store.open_writer(upload, verified=verified)
        assert writer.position == 5
        writer.write(b"678")
        assert writer.position == 8
        await writer.commit()
        assert writer.position == 8
        await writer.close()

    @pytest.mark.parametrize("verified", [True, False])
    @pytest.mark.parametrize("start", [b"", b"there already"])
    async def test_large_bodies_arrive_whole(self, store: DataStore, verified: bool, start: bytes) -> None:
        upload = await self.make(store, "large", start)
        data = bytes(range(251)) * (LARGE // 251)
        writer = await store.open_writer(upload, verified=verified)
        for position in range(0, len(data), 700_001):
            writer.write(data[position : position + 700_001])
        await writer.commit()
        await writer.sync()
        await writer.close()
        assert await self.read(store, upload) == start + data

    async def test_bytes_beyond_the_offset_are_cut(self, store: DataStore) -> None:
        upload = await self.make(store, "leftover", b"goodBAD")
        upload = upload.evolve(offset=4)
        writer = await store.open_writer(upload)
        await writer.close()
        assert await self.read(store, upload) == b"good"

    async def test_fewer_bytes_than_the_offset_are_a_failure(self, store: DataStore) -> None:
        upload = await self.make(store, "lost", b"some")
        with pytest.raises(StorageFailure):
            await store.open_writer(upload.evolve(offset=5))

    async def test_nothing_can_be_written_to_nothing(self, store: DataStore) -> None:
        with pytest.raises(StorageFailure):
            await store.open_writer(Upload(id="never", length=1))

    @pytest.mark.parametrize("verified", [True, False])
    @pytest.mark.parametrize("size", [3, LARGE])
    @pytest.mark.parametrize("start", [b"", b"before"])
    async def test_rollback_ends_where_it_began(self, store: DataStore, verified: bool, size: int, start: bytes) -> None:
        upload = await self.make(store, "rolled-back", start)
        for commit in (False, True):
            writer = await store.open_writer(upload, verified=verified)
            writer.write(b"x" * size)
            if commit:
                await writer.commit()
            await writer.rollback()
            assert writer.position == len(start)
            await writer.close()
            assert await self.read(store, upload) == start

    @pytest.mark.parametrize("size", [3, LARGE])
    async def test_unverified_bytes_are_invisible_until_commit(self, store: DataStore, size: int) -> None:
        upload = await self.make(store, "unseen", b"seen")
        writer = await store.open_writer(upload, verified=False)
        writer.write(b"x" * size)
        assert await self.read(store, upload) == b"seen"
        await writer.commit()
        await writer.close()
        assert await self.read(store, upload) == b"seen" + b"x" * size

    @pytest.mark.parametrize("size", [3, LARGE])
    async def test_closing_drops_what_was_not_committed(self, store: DataStore, size: int) -> None:
        upload = await self.make(store, "dropped", b"kept")
        writer = await store.open_writer(upload, verified=False)
        writer.write(b"x" * size)
        await writer.close()
        assert await self.read(store, upload) == b"kept"

    @pytest.mark.parametrize("verified", [True, False])
    async def test_closing_twice_is_no_failure(self, store: DataStore, verified: bool) -> None:
        writer = await store.open_writer(await self.make(store, "closed"), verified=verified)
        writer.write(b"x")
        await writer.close()
        await writer.close()

    async def test_syncing_many_at_once(self, store: DataStore) -> None:
        uploads = [await self.make(store, f"synced{number}", b"bytes") for number in range(10)]
        writers = [await store.open_writer(upload) for upload in uploads]
        await asyncio.gather(*(writer.sync() for writer in writers), *(store.sync(upload) for upload in uploads))
        for writer in writers:
            await writer.close()

    # Content

    async def test_content_is_read_at_any_place(self, store: DataStore) -> None:
        content = await store.open_content(await self.make(store, "read", b"0123456789"))
        assert content.size == 10
        assert await content.read(3, 4) == b"3456"
        assert await content.read(8, 100) == b"89"
        assert await content.read(10, 1) == b""
        await content.close()
        await content.close()

    async def test_content_outlives_removal(self, store: DataStore) -> None:
        upload = await self.make(store, "removed-while-read", b"still here")
        content = await store.open_content(upload)
        await store.remove(upload)
        assert await content.read(0, 100) == b"still here"
        await content.close()

    async def test_extents_show_the_same_bytes(self, store: DataStore) -> None:
        content = await store.open_content(await self.make(store, "extents", b"0123456789"))
        if (extents := content.extents(2, 4)) is not None:
            assert b"".join(os.pread(fd, count, offset) for fd, offset, count in extents) == b"2345"
        await content.close()

    async def test_the_version_changes_with_the_bytes(self, store: DataStore) -> None:
        upload = await self.make(store, "versions", b"one")
        versions = []
        for _ in range(2):
            content = await store.open_content(upload)
            versions.append(content.version)
            await content.close()
        assert versions[0] == versions[1]
        assert re.fullmatch(r"[A-Za-z0-9-]+", versions[0])
        await self.append(store, upload, b"more")
        content = await store.open_content(upload)
        assert content.version != versions[0]
        assert content.modified > 0
        await content.close()

    # Content of a finished upload, and what a store may know of it

    @pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS)
    async def test_a_finished_upload_is_read_in_pieces_of_any_size(self, store: DataStore, data: bytes) -> None:
        content = await store.open_content(await self.finish(store, await self.make(store, "finished", data)))
        assert content.size == len(data)
        for step in (1 << 20, 65_537):
            assert await read_on(content, step) == data
        assert await content.read(content.size, 1) == b""
        await content.close()

    @pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS)
    async def test_digests_are_of_all_the_bytes(self, store: DataStore, data: bytes) -> None:
        content = await store.open_content(await self.finish(store, await self.make(store, "digested", data)))
        digests = dict(content.digests)
        await content.close()
        assert digests == {name: hashlib.new(ALGORITHMS[name], data).digest() for name in digests}

    @pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS)
    async def test_encodings_are_the_same_bytes(self, store: DataStore, data: bytes) -> None:
        content = await store.open_content(await self.finish(store, await self.make(store, "encoded", data)))
        for coding, form in content.encodings.items():
            assert form.size < content.size, "else it is of no use"
            assert form.version != content.version
            assert re.fullmatch(r"[A-Za-z0-9-]+", form.version)
            for step in (1 << 20, 65_537):
                encoded = await read_on(form, step)
                assert len(encoded) == form.size and decoded(coding, encoded) == data
            if (extents := form.extents(0, form.size)) is not None:
                assert b"".join(os.pread(fd, count, offset) for fd, offset, count in extents) == encoded
            assert not form.encodings
        await content.close()

    async def test_a_name_by_content_is_the_same_for_the_same_bytes_alone(self, store: DataStore) -> None:
        names: dict[str, list[str]] = {}
        for upload_id, data in (("one", TEXT), ("two", TEXT), ("three", TEXT[:-1]), ("four", b"")):
            upload = await self.finish(store, await self.make(store, upload_id, data))
            content = await store.open_content(upload)
            if not content.is_named_by_content:
                await content.close()
                return
            names[upload_id] = [content.version, *(form.version for form in content.encodings.values())]
            await content.close()
        assert names["one"] == names["two"]
        assert len({version for each in ("one", "three", "four") for version in names[each]}) == sum(
            len(names[each]) for each in ("one", "three", "four")
        )

    async def test_finished_content_outlives_removal(self, store: DataStore) -> None:
        upload = await self.finish(store, await self.make(store, "removed-while-served", TEXT))
        content = await store.open_content(upload)
        await store.remove(upload)
        assert await read_on(content, 65_537) == TEXT
        with pytest.raises(UploadNotFound):
            await store.open_content(upload)
        await content.close()

    async def test_nothing_can_be_read_from_nothing(self, store: DataStore) -> None:
        with pytest.raises(UploadNotFound):
            await store.open_content(Upload(id="never", length=1))

    # concatenate

    @pytest.mark.parametrize("durable", [True, False])
    async def test_a_final_holds_its_partials_in_order(self, store: DataStore, durable: bool) -> None:
        sizes = (5, 0, LARGE, 1)
        parts = [await self.make(store, f"part{number}", bytes([number]) * size) for number, size in enumerate(sizes)]
        final = await self.make(store, "final")
        final = await self.put_together(store, final, [parts[2], parts[0], parts[1], parts[3], parts[0]], durable=durable)
        assert await self.read(store, final) == b"\2" * LARGE + b"\0" * 5 + b"\3" + b"\0" * 5
        assert await self.read(store, parts[0]) == b"\0" * 5

    async def test_a_final_of_nothing_is_empty(self, store: DataStore) -> None:
        final = await self.put_together(store, await self.make(store, "final"), [])
        assert await self.read(store, final) == b""

    async def test_a_missing_partial_leaves_the_final_as_it_was(self, store: DataStore) -> None:
        there, final = await self.make(store, "there", b"bytes"), await self.make(store, "final")
        with pytest.raises(StorageFailure):
            await store.concatenate(final, [there, Upload(id="missing", length=1, offset=1)])
        assert await self.read(store, final) == b""

    async def test_a_short_partial_leaves_the_final_as_it_was(self, store: DataStore) -> None:
        short, final = await self.make(store, "short", b"bytes"), await self.make(store, "final")
        with pytest.raises(StorageFailure):
            await store.concatenate(final, [short.evolve(offset=6)])
        assert await self.read(store, final) == b""

    async def test_concatenating_again_gives_the_same(self, store: DataStore) -> None:
        part, final = await self.make(store, "part", b"bytes"), await self.make(store, "final")
        await self.put_together(store, final, [part, part])
        final = await self.put_together(store, final, [part, part])  # nobody got to write down what came of it
        assert await self.read(store, final) == b"bytesbytes"

    async def test_a_final_of_finished_partials(self, store: DataStore) -> None:
        pieces = (TEXT, b"", b"bytes", TEXT)
        parts = [await self.finish(store, await self.make(store, f"part{n}", data)) for n, data in enumerate(pieces)]
        final = await self.put_together(store, await self.make(store, "final"), parts)
        assert await self.read(store, final) == b"".join(pieces)
        assert await self.read(store, await self.finish(store, final)) == b"".join(pieces)
        for part in parts:
            await store.remove(part)
        assert await self.read(store, final) == b"".join(pieces), "it holds bytes of its own"

    # remove

    async def test_removed_bytes_are_gone(self, store: DataStore) -> None:
        upload = await self.make(store, "removed", b"bytes")
        neighbour = await self.make(store, "removed-not", b"bytes")
        await store.remove(upload)
        with pytest.raises(UploadNotFound):
            await store.open_content(upload)
        assert await self.read(store, neighbour) == b"bytes"

    async def test_removing_nothing_is_no_failure(self, store: DataStore) -> None:
        upload = await self.make(store, "removed")
        await store.remove(upload)
        await store.remove(upload)
        await store.remove(Upload(id="never/was", length=1))

    async def test_an_id_can_be_used_again(self, store: DataStore) -> None:
        await store.remove(await self.make(store, "again", b"old"))
        assert await self.read(store, await self.make(store, "again", b"new")) == b"new"
