"""What watchers are told, and what they cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import pytest

from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.refusals import Refusal, ServerShutdown, TooManyStreams, UploadDamaged, UploadGone, UploadMissing
from tusd_py.protocol.rules import Policy
from tusd_py.protocol.upload import Upload
from tusd_py.uploads import progress, watches, watching
from tusd_py.uploads.holding import Running
from tusd_py.uploads.progress import Progress, State, of_record, of_running, progress_of
from tusd_py.uploads.watches import Everything, One, OwnedBy, Watch
from tusd_py.uploads.watching import Watchers

NOW = 1_000_000.0
AGES = 30.0
LONG_AGO = NOW - 100


class Source:
    """Uploads as the samplers see them."""

    policy = Policy()

    def __init__(self) -> None:
        self.records: dict[str, Upload] = {}
        self.receiving: dict[str, Running] = {}
        self.failing: Refusal | StorageFailure | None = None
        self.looks: list[str] = []
        self.listings = 0

    def put(self, upload_id: str, offset: int = 0, length: int | None = 10, **fields: object) -> Upload:
        upload = Upload(id=upload_id, length=length, offset=offset, **{"active_at": LONG_AGO, **fields})  # type: ignore[arg-type]
        self.records[upload_id] = upload
        return upload

    def receive(self, upload_id: str, position: int) -> None:
        self.receiving[upload_id] = Running(self.records[upload_id], position, time.monotonic())

    def running(self) -> Iterable[Running]:
        return list(self.receiving.values())

    async def look(self, upload_id: str) -> Upload:
        self.looks.append(upload_id)
        if self.failing is not None:
            raise self.failing
        if upload_id not in self.records:
            raise UploadMissing
        return self.records[upload_id]

    async def ids(self) -> AsyncIterator[str]:
        self.listings += 1
        for upload_id in list(self.records):
            yield upload_id


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def watchers(source: Source) -> AsyncIterator[Watchers]:
    """Without tasks of their own: tests call `sample` and `scan`."""
    watchers = Watchers(source, 1.0, clock=lambda: NOW)
    watchers._start = lambda: None  # type: ignore[method-assign]
    yield watchers
    watchers.shutdown()


def at(upload: Upload, state: State | None = None) -> Progress:
    found = of_record(upload, NOW)
    return found if state is None else replace(found, state=state)


async def news(watch: Watch) -> list[tuple[str, int, str]] | None:
    """What there is to take, without waiting for more."""
    taken = await watch.take(0)
    return None if taken is None else [(each.upload.id, each.offset, each.state.value) for each in taken]


# A sample


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"offset": 0}, State.PAUSED),
        ({"offset": 0, "active_at": NOW}, State.PAUSED),
        ({"offset": 5}, State.PAUSED),
        ({"offset": 5, "active_at": NOW - 1}, State.RECEIVING),
        ({"offset": 5, "active_at": NOW - 3}, State.PAUSED),
        ({"offset": 5, "length": None, "active_at": NOW}, State.RECEIVING),
        ({"offset": 10}, State.FINISHED),
        ({"offset": 10, "active_at": NOW}, State.FINISHED),
        ({"offset": 10, "held": True}, State.HELD),
        ({"offset": 5, "held": True}, State.PAUSED),
        ({"offset": 0, "partials": ("a",), "failure": "a is gone"}, State.FAILED),
        ({"offset": 5, "partials": ("a",), "active_at": NOW}, State.PAUSED),
    ],
    ids=str,
)
def test_state_of_a_record(source: Source, fields: dict[str, object], state: State) -> None:
    sample = of_record(source.put("a", **fields), NOW)  # type: ignore[arg-type]
    assert sample.state is state
    assert (sample.started_at, sample.rate) == (None, None)
    assert sample.ended == (state in (State.FINISHED, State.FAILED))


def test_what_is_received_has_a_start_and_a_mean_rate(source: Source) -> None:
    sample = of_running(Running(source.put("a", 100, 1000), 300, started=50.0), NOW, monotonic=54.0)
    assert (sample.offset, sample.state, sample.started_at, sample.rate) == (300, State.RECEIVING, NOW - 4, 50.0)


def test_a_body_that_has_just_begun_has_no_rate(source: Source) -> None:
    sample = of_running(Running(source.put("a", 100, 1000), 100, started=50.0), NOW, monotonic=50.0)
    assert (sample.offset, sample.rate) == (100, None)


def test_a_position_behind_the_record_is_not_believed(source: Source) -> None:
    assert of_running(Running(source.put("a", 100, 1000), 0, started=50.0), NOW, monotonic=51.0).offset == 100


def test_what_this_process_receives_comes_before_the_record(source: Source) -> None:
    source.put("a", 1)
    source.receive("a", 4)
    upload = source.put("a", 3, owner="ann")  # meanwhile, as a directory shows it
    sample = progress_of(source, upload, NOW, time.monotonic())
    assert (sample.offset, sample.state, sample.upload.owner) == (4, State.RECEIVING, "ann")
    source.receiving.clear()
    assert progress_of(source, upload, NOW, 0.0).offset == 3


# One upload


async def test_a_watch_begins_with_what_is_known(source: Source, watchers: Watchers) -> None:
    watch = watchers.open(One("a"), at(source.put("a", 5)))
    assert await news(watch) == [("a", 5, "paused")]
    assert await news(watch) == []


async def test_only_changes_are_told(source: Source, watchers: Watchers) -> None:
    watch = watchers.open(One("a"), at(source.put("a", 5)))
    await news(watch)
    await watchers.sample()
    assert await news(watch) == []
    source.receive("a", 5)
    await watchers.sample()
    assert await news(watch) == [("a", 5, "receiving")]
    source.receive("a", 7)
    await watchers.sample()
    assert await news(watch) == [("a", 7, "receiving")]


async def test_a_slow_watcher_has_the_latest_only(source: Source, watchers: Watchers) -> None:
    watch = watchers.open(One("a"), at(source.put("a")))
    for position in range(10):
        source.receive("a", position)
        await watchers.sample()
    assert await news(watch) == [("a", 9, "receiving")]


async def test_the_end_of_an_upload(source: Source, watchers: Watchers) -> None:
    watch = watchers.open(One("a"), at(source.put("a")))
    source.receive("a", 10)
    await watchers.sample()
    source.receiving.clear()
    source.put("a", 10, active_at=NOW)
    await watchers.sample()
    assert await news(watch) == [("a", 10, "finished")]
    await watchers.sample()
    assert await news(watch) == []


@pytest.mark.parametrize("refusal", [UploadMissing(), UploadGone()], ids=["deleted", "expired"])
async def test_an_upload_that_vanishes_is_terminated(source: Source, watchers: Watchers, refusal: Refusal) -> None:
    watch = watchers.open(One("a"), at(source.put("a", 5)))
    source.failing = refusal
    await watchers.sample()
    assert await news(watch) == [("a", 5, "terminated")]


@pytest.mark.parametrize("failure", [UploadDamaged(), StorageFailure("a broken disk")], ids=["damaged", "broken"])
async def test_what_can_not_be_read_just_now_says_nothing(
    source: Source, watchers: Watchers, failure: Refusal | StorageFailure
) -> None:
    watch = watchers.open(One("a"), at(source.put("a", 5)))
    await news(watch)
    source.failing = failure
    await watchers.sample()
    assert await news(watch) == []
    source.failing = None
    source.put("a", 6)
    await watchers.sample()
    assert await news(watch) == [("a", 6, "paused")]


async def test_what_another_process_receives_is_seen_in_the_record(source: Source, watchers: Watchers) -> None:
    watch = watchers.open(One("a"), at(source.put("a")))
    for offset in (3, 6):
        source.put("a", offset, active_at=NOW)
        await watchers.sample()
        assert await news(watch) == [("a", offset, "receiving")]
    source.put("a", 6)
    await watchers.sample()
    assert await news(watch) == [("a", 6, "paused")]


async def test_the_rate_of_another_process_needs_two_samples(source: Source, watchers: Watchers) -> None:
    watch = watchers.open(One("a"), at(source.put("a", 0, 1000)))
    await watch.take(0)
    rates = []
    for offset in (100, 200):
        source.put("a", offset, 1000, active_at=NOW)
        await watchers.sample()
        (sample,) = await watch.take(0) or ()
        rates.append(sample.rate)
    assert rates[0] is None and rates[1] and rates[1] > 0


# All uploads of an owner


async def test_an_owner_is_told_of_what_is_running_at_once(source: Source, watchers: Watchers) -> None:
    watch = watchers.open(OwnedBy("ann"))
    for upload_id, owner in (("a", "ann"), ("b", "bob"), ("c", None)):
        source.put(upload_id, owner=owner)
        source.receive(upload_id, 2)
    await watchers.sample()
    assert await news(watch) == [("a", 2, "receiving")]
    assert source.looks == [] and source.listings == 0
    assert list(watchers._followed) == ["a"]


async def test_everything_is_everything(source: Source, watchers: Watchers) -> None:
    watch = watchers.open(Everything())
    for upload_id, owner in (("a", "ann"), ("b", None)):
        source.put(upload_id, owner=owner)
    await watchers.scan()
    assert await news(watch) == [("a", 0, "paused"), ("b", 0, "paused")]


async def test_an_owner_is_told_of_what_another_process_does(source: Source, watchers: Watchers) -> None:
    source.put("a", 1, owner="ann")
    source.put("b", 1, owner="bob")
    watch = watchers.open(OwnedBy("ann"))
    await watchers.scan()
    assert await news(watch) == [("a", 1, "paused")]
    source.put("a", 4, owner="ann", active_at=NOW)
    await watchers.scan()
    assert await news(watch) == [("a", 4, "receiving")]
    source.put("a", 6, owner="ann", active_at=NOW)
    await watchers.sample()  # what moves is looked at in every sample
    assert await news(watch) == [("a", 6, "receiving")]
    del source.records["a"]
    await watchers.sample()
    assert await news(watch) == [("a", 6, "terminated")]
    assert not watchers._followed and not watchers._rates


async def test_who_is_not_watched_any_more_is_forgotten(source: Source, watchers: Watchers) -> None:
    for upload_id, owner in (("a", "ann"), ("b", "bob")):
        source.put(upload_id, owner=owner)
    watchers.open(OwnedBy("ann"))
    watch = watchers.open(OwnedBy("bob"))
    await watchers.scan()
    assert sorted(watchers._followed) == ["a", "b"]
    watchers.close(watch)
    await watchers.scan()
    assert sorted(watchers._followed) == ["a"]


async def test_what_vanishes_while_nothing_moves_is_terminated(source: Source, watchers: Watchers) -> None:
    source.put("a", 1, owner="ann")
    watch = watchers.open(OwnedBy("ann"))
    await watchers.scan()
    await news(watch)
    del source.records["a"]
    await watchers.scan()
    assert await news(watch) == [("a", 1, "terminated")]


async def test_what_had_ended_before_is_no_news(source: Source, watchers: Watchers) -> None:
    source.put("old", 10, owner="ann")
    watch = watchers.open(OwnedBy("ann"))
    source.put("new", 10, owner="ann", active_at=NOW)
    source.put("just", 10, owner="ann", active_at=NOW - 0.01)  # as coarse clocks have it
    await watchers.scan()
    assert await news(watch) == [("new", 10, "finished"), ("just", 10, "finished")]
    await watchers.scan()
    assert await news(watch) == []


async def test_the_end_is_told_once_whoever_else_begins_to_watch(source: Source, watchers: Watchers) -> None:
    watch = watchers.open(OwnedBy("ann"))
    source.put("a", 10, owner="ann", active_at=NOW)
    await watchers.scan()
    assert await news(watch) == [("a", 10, "finished")]
    watchers.open(OwnedBy("bob"))
    await watchers.scan()
    assert await news(watch) == []


async def test_who_comes_later_is_told_what_is_known(source: Source, watchers: Watchers) -> None:
    watchers.open(OwnedBy("ann"))
    source.put("a", 3, owner="ann")
    await watchers.scan()
    assert await news(watchers.open(OwnedBy("ann"))) == [("a", 3, "paused")]
    assert await news(watchers.open(OwnedBy("bob"))) == []


async def test_records_of_no_interest_are_read_once(source: Source, watchers: Watchers) -> None:
    source.put("finished", 10, owner="ann")
    source.put("bobs", 1, owner="bob")
    source.put("anns", 1, owner="ann")
    watchers.open(OwnedBy("ann"))
    await watchers.scan()
    assert sorted(source.looks) == ["anns", "bobs", "finished"]
    source.looks.clear()
    await watchers.scan()
    assert source.looks == ["anns"]
    watch = watchers.open(OwnedBy("bob"))
    await watchers.scan()
    assert await news(watch) == [("bobs", 1, "paused")]


async def test_damaged_records_are_read_once(source: Source, watchers: Watchers) -> None:
    source.put("a")
    source.failing = UploadDamaged()
    watchers.open(Everything())
    await watchers.scan()
    await watchers.scan()
    assert source.looks == ["a"]


async def test_many_records_leave_the_loop_to_others(source: Source, watchers: Watchers) -> None:
    for number in range(watching.IN_ONE_GO * 3):
        source.put(str(number))
    watchers.open(Everything())
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    await watchers.scan()
    task.cancel()
    assert turns >= 2


# Bounds


async def test_watches_are_bounded(source: Source) -> None:
    watchers = Watchers(source, 1.0, limit=2)
    first, second = watchers.open(One("a")), watchers.open(One("b"))
    with pytest.raises(TooManyStreams) as refused:
        watchers.open(One("c"))
    assert refused.value.headers["Retry-After"]
    watchers.close(first)
    watchers.close(first)
    third = watchers.open(One("c"))
    for watch in (second, third):
        watchers.close(watch)


async def test_a_watcher_that_takes_nothing_is_dropped(
    source: Source, watchers: Watchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "MAX_PENDING", 3)
    watch = watchers.open(Everything())
    for upload_id in "abcd":
        source.put(upload_id)
    await watchers.scan()
    assert await news(watch) is None


async def test_memory_is_bounded(source: Source, watchers: Watchers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_FOLLOWED", 2)
    monkeypatch.setattr(watching, "MAX_DISMISSED", 2)
    watchers.open(OwnedBy("ann"))
    for upload_id in "abcdef":
        source.put(upload_id, owner="ann")
        source.put(upload_id + "-finished", 10, owner="ann")
        source.put(upload_id + "-bob", owner="bob")
        source.receive(upload_id, 1)
    await watchers.sample()
    await watchers.scan()
    sizes = [len(memory) for memory in (watchers._followed, watchers._rates, watchers._ended, watchers._unwatched)]
    assert sizes == [2, 2, 2, 2]


async def test_nothing_runs_and_nothing_is_remembered_when_nobody_watches(source: Source) -> None:
    watchers = Watchers(source, 1.0)
    watch = watchers.open(OwnedBy("ann"), at(source.put("a", 1, owner="ann")))
    assert progress_tasks() and watchers._followed
    watchers.close(watch)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not progress_tasks() and not watchers._followed
    again = watchers.open(One("a"))
    assert progress_tasks()
    watchers.close(again)


def progress_tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("tusd-py progress")]


# The tasks


async def take(watch: Watch) -> list[tuple[str, int, str]]:
    """What comes next, however long it takes."""
    taken = await watch.take(AGES)
    assert taken
    return [(each.upload.id, each.offset, each.state.value) for each in taken]


async def test_samples_and_scans_by_itself(source: Source) -> None:
    watchers = Watchers(source, 0.1, clock=lambda: NOW)
    watch = watchers.open(OwnedBy("ann"))
    source.put("a", 2, owner="ann")
    assert await take(watch) == [("a", 2, "paused")]
    source.receive("a", 3)
    assert await take(watch) == [("a", 3, "receiving")]
    source.receiving.clear()
    source.put("a", 10, owner="ann")
    assert await take(watch) == [("a", 10, "finished")]
    watchers.close(watch)


async def test_who_begins_to_watch_does_not_wait_for_the_next_scan(source: Source) -> None:
    watchers = Watchers(source, 1000.0, clock=lambda: NOW)
    first = watchers.open(One("a"), at(source.put("a")))
    await take(first)
    await asyncio.sleep(0)
    source.put("b", 2, owner="ann")
    second = watchers.open(OwnedBy("ann"))
    assert await take(second) == [("b", 2, "paused")]
    for watch in (first, second):
        watchers.close(watch)


async def test_a_failure_does_not_end_it(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    watchers = Watchers(source, 0.1, clock=lambda: NOW)
    works, source.running = source.running, lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    watch = watchers.open(One("a"), at(source.put("a")))
    await take(watch)
    while not caplog.records:  # noqa: ASYNC110 - a record of the log
        await asyncio.sleep(0.01)
    source.running = works  # type: ignore[method-assign]
    source.receive("a", 3)
    assert await take(watch) == [("a", 3, "receiving")]
    watchers.close(watch)


@pytest.mark.parametrize("how", ["told", "host"])
async def test_shutdown_ends_every_watch(source: Source, how: str) -> None:
    stopping = False
    watchers = Watchers(source, 0.1, stopping=lambda: stopping)
    watch = watchers.open(One("a"), at(source.put("a")))
    await take(watch)
    if how == "told":
        watchers.shutdown()
    stopping = True
    assert await watch.take(AGES) is None
    with pytest.raises(ServerShutdown):
        watchers.open(One("a"))
    watchers.shutdown()
    watchers.close(watch)


def test_recent_is_longer_than_the_default_interval() -> None:
    """Else what another process receives would be paused between two samples."""
    assert progress.RECENT > 1.0
