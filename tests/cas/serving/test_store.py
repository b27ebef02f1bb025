"""The store around the store: the promises of the port, and what is special about uploads in chunks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.cas.serving.support import CONTENTS, NOISE, TEXT, Server, age
from tusd_py.ports.datastore import DataStore
from tusd_py.ports.failures import OutOfSpace, StorageFailure, UploadNotFound
from tusd_py.protocol.upload import Upload
from tusd_py.testing.datastore_suite import DataStoreSuite


class TestKeeping(DataStoreSuite):
    """Every finished upload of the suite is taken in."""

    mode = "keep"

    @pytest.fixture
    async def server(self, tmp_path: Path) -> AsyncIterator[Server]:
        async with Server(tmp_path, self.mode) as server:
            yield server

    @pytest.fixture
    def store(self, server: Server) -> DataStore:
        self.server = server
        return server.store

    async def finish(self, store: DataStore, upload: Upload) -> Upload:
        finished = self.server.host.records[upload.id] = upload.evolve(length=upload.offset)
        await self.server.deliver(upload.id)
        if self.mode == "replace":
            assert await self.server.replace(upload.id)
            assert not self.server.path(upload.id).exists()
            finished = self.server.host.records[upload.id]
        content = await store.open_content(finished)
        assert content.is_named_by_content
        await content.close()
        return finished


class TestReplacing(TestKeeping):
    mode = "replace"


@pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS)
async def test_what_was_taken_in_comes_back(keeping: Server, data: bytes) -> None:
    await keeping.take("a", data)
    assert await keeping.is_served_from_chunks("a")
    assert await keeping.read("a") == data


async def test_until_it_is_taken_in_the_file_serves(keeping: Server) -> None:
    await keeping.put("a", TEXT)
    assert not await keeping.is_served_from_chunks("a")
    assert await keeping.read("a") == TEXT


async def test_unfinished_uploads_are_the_inner_store_s(keeping: Server) -> None:
    upload = await keeping.put("a", TEXT)
    await keeping.deliver("a")
    for changes in ({"length": len(TEXT) + 1}, {"failure": "no"}, {"held": True}):
        content = await keeping.store.open_content(upload.evolve(**changes))
        assert not content.is_named_by_content
        await content.close()


async def test_a_file_that_has_changed_counts_and_not_its_version(keeping: Server) -> None:
    """As after its id was used again while the extension was turned off."""
    await keeping.take("a", TEXT)
    keeping.path("a").write_bytes(TEXT[::-1])
    assert await keeping.read("a") == TEXT[::-1]
    await keeping.deliver("a")
    assert await keeping.is_served_from_chunks("a")
    assert await keeping.read("a") == TEXT[::-1]


async def test_an_older_file_is_another_one_too(keeping: Server) -> None:
    await keeping.take("a", TEXT)
    keeping.path("a").write_bytes(TEXT[::-1])
    age(keeping.path("a"))
    assert await keeping.read("a") == TEXT[::-1]


async def test_an_id_that_is_used_again_has_no_version_any_more(keeping: Server) -> None:
    await keeping.take("a", TEXT)
    keeping.path("a").unlink()  # without the extension
    await keeping.put("a", NOISE)
    assert keeping.version("a") is None


async def test_a_creation_that_fails_half_way_leaves_nothing(keeping: Server) -> None:
    await keeping.take("a", TEXT)
    keeping.path("a").unlink()

    def broken() -> None:
        raise StorageFailure("no")

    keeping.repository.index.drop_version = lambda _: broken()
    with pytest.raises(StorageFailure):
        await keeping.put("a", NOISE)
    assert not keeping.path("a").exists()


async def test_a_removed_upload_has_no_version_any_more(replacing: Server) -> None:
    upload = await replacing.take("a", TEXT)
    await replacing.replace("a")
    upload = replacing.host.records["a"]
    await replacing.remove("a")
    assert replacing.version("a") is None
    with pytest.raises(UploadNotFound):
        await replacing.store.open_content(upload)


async def test_an_unreadable_version_can_be_removed(keeping: Server) -> None:
    await keeping.take("a", TEXT)
    dropped = []

    def find(upload_id: str) -> None:
        raise StorageFailure("damaged")

    keeping.repository.index.find_version = find
    real = keeping.repository.index.drop_version
    keeping.repository.index.drop_version = lambda upload_id: dropped.append(real(upload_id))
    await keeping.remove("a")
    assert dropped == [True]


async def test_on_a_full_disk_uploads_can_be_removed(keeping: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing else makes room. The version goes as that of an upload without a record does."""
    await keeping.take("a", TEXT)
    with failing(keeping, OutOfSpace("full")):
        await keeping.remove("a")
    assert not keeping.path("a").exists() and "stays for now" in caplog.text
    assert keeping.version("a") is not None
    await keeping.opened.clearer.look_around()
    assert keeping.version("a") is None


async def test_while_somebody_keeps_the_index_uploads_stay_as_they_are(keeping: Server) -> None:
    await keeping.take("a", TEXT)
    with failing(keeping, StorageFailure("busy")), pytest.raises(StorageFailure, match="busy"):
        await keeping.remove("a")
    assert await keeping.read("a") == TEXT and await keeping.is_served_from_chunks("a")


async def test_but_no_file_is_left_of_one_that_has_no_record_any_more(replacing: Server) -> None:
    """Of what is in chunks, the record goes first. A crash may have left the file, and a final has one that is empty."""
    await replacing.take("a", TEXT)
    upload = replacing.host.records["a"]
    with failing(replacing, StorageFailure("busy")), pytest.raises(StorageFailure, match="busy"):
        await replacing.store.remove(upload.evolve(storage={**upload.storage, "Type": "cas"}))
    assert not replacing.path("a").exists()


@contextlib.contextmanager
def failing(server: Server, failure: Exception) -> Iterator[None]:
    """No version can be dropped."""

    def fail(_: str) -> bool:
        raise failure

    real, server.repository.index.drop_version = server.repository.index.drop_version, fail
    try:
        yield
    finally:
        server.repository.index.drop_version = real


async def test_where_the_index_can_not_be_read_the_file_serves(keeping: Server) -> None:
    await keeping.take("a", TEXT)

    def find(upload_id: str) -> None:
        raise StorageFailure("damaged")

    keeping.repository.index.find_version = find
    assert await keeping.read("a") == TEXT
    record = keeping.host.records["a"]
    with pytest.raises(StorageFailure, match="damaged"):
        await keeping.store.open_content(record.evolve(storage={**record.storage, "Type": "cas"}))


async def test_a_record_from_before_the_file_went_will_do(replacing: Server) -> None:
    before = await replacing.take("a", TEXT)
    await replacing.replace("a")
    assert before.storage["Type"] == "filestore"
    content = await replacing.store.open_content(before)
    assert await content.read(0, content.size) == TEXT
    await content.close()


async def test_a_file_that_is_taken_in_and_goes_at_that_moment(replacing: Server) -> None:
    before = await replacing.put("a", NOISE)

    async def take_and_replace() -> None:
        await replacing.deliver("a")
        assert await replacing.replace("a")

    replacing.faults.acts["inner.open_content"] = take_and_replace
    content = await replacing.store.open_content(before)
    try:
        assert await content.read(0, 1000) == NOISE[:1000]
    finally:
        await content.close()


async def test_an_upload_whose_version_can_not_be_looked_up_is_not_gone(replacing: Server) -> None:
    """Somebody who holds a record from before its file went would take a 404 for good."""
    before = replacing.host.records["a"] = await replacing.put("a", NOISE)
    await replacing.deliver("a")
    assert await replacing.replace("a")

    def fail(_: str) -> None:
        raise StorageFailure("locked")

    replacing.repository.index.find_version = fail
    with pytest.raises(StorageFailure, match="locked"):
        await replacing.store.open_content(before)


async def test_a_file_without_a_version_serves_whatever_the_record_says(keeping: Server) -> None:
    upload = await keeping.put("a", TEXT)
    moved = upload.evolve(storage={**upload.storage, "Type": "cas"})
    content = await keeping.store.open_content(moved)
    assert await content.read(0, content.size) == TEXT
    await content.close()
    keeping.path("a").write_bytes(b"short")
    with pytest.raises(UploadNotFound):
        await keeping.store.open_content(moved)


async def test_a_version_of_another_size_never_counts(replacing: Server) -> None:
    await replacing.take("a", TEXT)
    assert await replacing.replace("a")
    with pytest.raises(UploadNotFound):
        await replacing.store.open_content(replacing.host.records["a"].evolve(length=3, offset=3))


async def test_to_a_replaced_upload_nothing_can_be_written(replacing: Server) -> None:
    await replacing.take("a", TEXT)
    await replacing.replace("a")
    upload = replacing.host.records["a"]
    writer = await replacing.store.open_writer(upload)
    assert writer.position == len(TEXT)
    writer.write(b"")
    await writer.commit()
    await writer.sync()
    await writer.rollback()
    with pytest.raises(StorageFailure):
        writer.write(b"x")
    await writer.close()
    await replacing.store.sync(upload)
    assert await replacing.read("a") == TEXT


async def test_two_servers_see_the_same(tmp_path: Path) -> None:
    async with Server(tmp_path, "keep") as one, Server(tmp_path, "keep", host=one.host) as other:
        await one.take("a", TEXT)
        assert await other.is_served_from_chunks("a")
        assert await other.read("a") == TEXT
        await other.remove("a")
        await one.put("a", NOISE)
        assert await one.read("a") == await other.read("a") == NOISE
