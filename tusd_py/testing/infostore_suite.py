"""The promises of `tusd_py.ports.infostore`, a test each."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from tusd_py.ports.failures import UploadExists, UploadNotFound
from tusd_py.ports.infostore import InfoStore
from tusd_py.protocol.metadata import parse_metadata
from tusd_py.protocol.upload import MAX_LENGTH, Upload

__all__ = ["InfoStoreSuite"]

RECORDS = {
    "plain": Upload(id="plain", length=5),
    "empty": Upload(id="empty", length=0),
    "deferred": Upload(id="deferred", length=None),
    "largest": Upload(id="largest", length=MAX_LENGTH),
    "slashes": Upload(id="project/2024/video", length=5),
    "metadata": Upload(id="metadata", length=5, metadata=parse_metadata("z emE=,filename YS50eHQ=,is_confidential,a w7w=")),
    "binary metadata": Upload(id="binary", length=5, metadata=parse_metadata("key gIGC/wA=,markup PGE+Jjwv4oCoPg==")),
    "partial": Upload(id="partial", length=5, is_partial=True, concat="partial"),
    "final": Upload(id="final", length=9, partials=("a", "b/c", "a"), concat="final;/files/a /files/b/c /files/a"),
    "final of nothing": Upload(id="nothing", length=0, partials=()),
    "unfinished final": Upload(id="unfinished", length=None, partials=("a",), failure="partial a was removed"),
}
"""Every field, set and unset."""


class InfoStoreSuite:
    """Override `store`; and `put_bytes` where the record's offset is derived from bytes kept elsewhere."""

    @pytest.fixture
    def store(self) -> InfoStore:
        raise NotImplementedError("an adapter's test class overrides this fixture")

    async def put_bytes(self, upload: Upload, count: int) -> None:
        """Let the data store hold `count` bytes of `upload`, as it does before the record is asked for."""

    async def make(self, store: InfoStore, upload: Upload) -> Upload:
        await self.put_bytes(upload, upload.offset)
        await store.create(upload)
        return upload

    def same(self, found: Upload, expected: Upload) -> bool:
        """Equal but for what a store adds by itself: `active_at`, and more `storage`."""
        return (
            replace(found, active_at=0.0, storage={}) == replace(expected, active_at=0.0, storage={})
            and expected.storage.items() <= found.storage.items()
        )

    # create, load, replace

    @pytest.mark.parametrize("name", RECORDS)
    async def test_a_record_is_found_as_it_was_created(self, store: InfoStore, name: str) -> None:
        upload = await self.make(store, RECORDS[name])
        found = await store.load(upload.id)
        assert self.same(found, upload)
        assert list(found.metadata.pairs) == list(upload.metadata.pairs)

    @pytest.mark.parametrize("name", RECORDS)
    async def test_a_record_is_replaced_as_a_whole(self, store: InfoStore, name: str) -> None:
        upload = RECORDS[name]
        old = Upload(id=upload.id, length=7, metadata=parse_metadata("old dmFsdWU="), concat="x", failure="x", partials=("x",))
        await self.make(store, old)
        await store.replace(upload)
        assert self.same(await store.load(upload.id), upload)

    async def test_storage_is_kept(self, store: InfoStore) -> None:
        upload = await self.make(store, Upload(id="stored", length=5, storage={"Bucket": "b", "Key": 'a "key"\n<'}))
        assert (await store.load("stored")).storage.items() >= upload.storage.items()

    async def test_creating_again_fails_and_leaves_the_record_alone(self, store: InfoStore) -> None:
        upload = await self.make(store, Upload(id="same", length=5))
        with pytest.raises(UploadExists):
            await store.create(upload.evolve(length=6))
        assert (await store.load("same")).length == 5

    async def test_of_many_who_create_one_succeeds(self, store: InfoStore) -> None:
        upload = Upload(id="contended", length=0)
        await self.put_bytes(upload, 0)
        results = await asyncio.gather(*(store.create(upload.evolve(length=n)) for n in range(20)), return_exceptions=True)
        winners = [number for number, result in enumerate(results) if result is None]
        assert len(winners) == 1
        assert all(isinstance(result, UploadExists) for result in results if result is not None)
        assert (await store.load("contended")).length == winners[0]

    async def test_there_is_no_record_that_nobody_made(self, store: InfoStore) -> None:
        await self.make(store, Upload(id="there", length=5))
        for upload_id in ("missing", "there/missing", "missing/there", "x" * 240, "x/" * 400 + "x"):
            with pytest.raises(UploadNotFound):
                await store.load(upload_id)

    async def test_what_is_no_id_names_nothing(self, store: InfoStore) -> None:
        await self.make(store, Upload(id="there", length=5))
        for upload_id in ("", ".", "..", "../there", "a/../there", "/there", "there/", "./there", "there\0", "x" * 5000):
            with pytest.raises(UploadNotFound):
                await store.load(upload_id)

    # The offset

    async def test_the_committed_offset_is_found(self, store: InfoStore) -> None:
        upload = await self.make(store, Upload(id="appended", length=10))
        for offset in (0, 3, 10):
            upload = upload.evolve(offset=offset)
            await self.put_bytes(upload, offset)
            await store.commit_offset(upload)
            assert (await store.load("appended")).offset == offset

    async def test_activity_is_recent(self, store: InfoStore) -> None:
        await self.make(store, Upload(id="active", length=10))
        assert abs((await store.load("active")).active_at - time.time()) < 60

    async def test_syncing_many_at_once(self, store: InfoStore) -> None:
        uploads = [await self.make(store, Upload(id=f"synced/{number}", length=5)) for number in range(10)]
        await asyncio.gather(*map(store.sync, uploads))

    # remove, tombstones

    async def test_a_removed_record_is_gone(self, store: InfoStore) -> None:
        await self.make(store, Upload(id="removed", length=5))
        await self.make(store, Upload(id="removed-not", length=5))
        await store.remove("removed")
        with pytest.raises(UploadNotFound):
            await store.load("removed")
        assert not await store.is_gone("removed")
        assert (await store.load("removed-not")).length == 5

    async def test_removing_nothing_is_no_failure(self, store: InfoStore) -> None:
        await store.remove("never")
        await store.remove("never/was")

    @pytest.mark.parametrize("upload_id", ["buried", "project/2024/video", "long/" * 100 + "id"])
    async def test_a_tombstone_remembers(self, store: InfoStore, upload_id: str) -> None:
        await self.make(store, Upload(id=upload_id, length=5))
        assert not await store.is_gone(upload_id)
        await store.remove(upload_id, tombstone=True)
        await store.tidy()
        assert await store.is_gone(upload_id)
        assert not await store.is_gone(upload_id + "2")
        with pytest.raises(UploadNotFound):
            await store.load(upload_id)

    async def test_a_removal_can_be_durable(self, store: InfoStore) -> None:
        for upload_id in ("lasting", "project/lasting"):
            await self.make(store, Upload(id=upload_id, length=5))
            await store.remove(upload_id, durable=True)
            await store.remove(upload_id, durable=True)
            with pytest.raises(UploadNotFound):
                await store.load(upload_id)
        await store.remove("never/was", durable=True)

    async def test_what_has_no_record_is_told(self, store: InfoStore) -> None:
        for upload_id in ("there", "project/there"):
            await self.make(store, Upload(id=upload_id, length=5))
        await self.make(store, Upload(id="removed", length=5))
        await store.remove("removed", tombstone=True)
        asked = ["removed", "there", "never", "project/there", "project/not", "there/below", "never/was"]
        assert list(await store.without_record(asked)) == ["removed", "never", "project/not", "there/below", "never/was"]

    async def test_an_id_can_be_used_again(self, store: InfoStore) -> None:
        await self.make(store, Upload(id="again", length=5))
        await store.remove("again", tombstone=True)
        await self.make(store, Upload(id="again", length=6))
        assert (await store.load("again")).length == 6

    # Finals that wait

    async def test_finals_wait_for_their_partials(self, store: InfoStore) -> None:
        first = Upload(id="first", length=None, partials=("a", "b/c", "a"))
        second = Upload(id="dir/second", length=None, partials=("a",))
        for final in (first, second, first):
            await store.expect(final)
        assert sorted(await store.expected_by("a")) == ["dir/second", "first"]
        assert await store.expected_by("b/c") == ("first",)
        assert await store.expected_by("b") == ()
        assert sorted(await store.waiting_finals()) == ["dir/second", "first"]

    async def test_finals_stop_waiting(self, store: InfoStore) -> None:
        first = Upload(id="first", length=None, partials=("a", "b"))
        second = Upload(id="second", length=None, partials=("a",))
        await store.expect(first)
        await store.expect(second)
        await store.unexpect(first)
        await store.unexpect(first)
        assert await store.expected_by("a") == ("second",)
        assert await store.expected_by("b") == ()
        assert await store.waiting_finals() == ("second",)

    async def test_nothing_waits_at_first(self, store: InfoStore) -> None:
        assert await store.waiting_finals() == ()
        assert await store.expected_by("a") == ()
        await store.unexpect(Upload(id="never", length=None, partials=("a",)))

    # ids, tidy

    async def test_all_ids_are_listed(self, store: InfoStore) -> None:
        wanted = {"plain", "a/b/c/d", "a/x"} | {f"many{number}" for number in range(50)}
        for upload_id in wanted:
            await self.make(store, Upload(id=upload_id, length=5))
        await self.make(store, Upload(id="gone", length=5))
        await store.remove("gone", tombstone=True)
        found = [upload_id async for upload_id in store.ids()]
        assert sorted(found) == sorted(wanted)

    async def test_records_may_go_while_they_are_listed(self, store: InfoStore) -> None:
        for number in range(20):
            await self.make(store, Upload(id=f"dir{number}/upload", length=5))
        seen = set()
        async for upload_id in store.ids():
            seen.add(upload_id)
            await store.remove(upload_id)
        assert len(seen) == 20

    async def test_tidying_keeps_records(self, store: InfoStore) -> None:
        upload = await self.make(store, RECORDS["metadata"])
        await store.tidy()
        assert self.same(await store.load(upload.id), upload)
