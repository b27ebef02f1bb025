"""The promises of `tusd_py.ports.limits`, a test each, with the limits that `tusd_py.limits.rules` knows."""

from __future__ import annotations

import asyncio

import pytest

from tusd_py.limits.rules import RUNNING, LimitSettings
from tusd_py.protocol.refusals import QuotaExceeded, RateLimited, StorageFull, TooManyUploads
from tusd_py.protocol.upload import Upload
from tusd_py.testing.limiter_recovery_suite import LimiterRecoverySuite
from tusd_py.testing.limiter_support import ME, YOU, Open, TurnedClock, Uploads

__all__ = ["LimiterSuite", "Open", "TurnedClock", "Uploads"]


class LimiterSuite(LimiterRecoverySuite):
    """Override `open`, using `clock`, `uploads` and `free` (a callable that returns `self.room`)."""

    # Quota

    async def test_an_owner_may_use_all_of_the_quota_and_no_byte_more(self, open: Open) -> None:
        limiter = open(LimitSettings(quota=100))
        await limiter.admit(Upload(id="a", length=60, owner="ann"), ME)
        with pytest.raises(QuotaExceeded, match="60 of 100 bytes are taken, 41 are needed"):
            await limiter.admit(Upload(id="b", length=41, owner="ann"), ME)
        await limiter.admit(Upload(id="c", length=40, owner="ann"), ME)

    async def test_each_owner_has_a_quota_and_nobody_is_one_owner(self, open: Open) -> None:
        limiter = open(LimitSettings(quota=100))
        for owner in ("ann", "bob", None):
            await limiter.admit(Upload(id=f"first of {owner}", length=100, owner=owner), ME)
        for owner in ("ann", "bob", None):
            assert isinstance(await self.refused(limiter, Upload(id="next", length=1, owner=owner), YOU), QuotaExceeded)

    async def test_finished_uploads_count_until_they_are_gone(self, open: Open) -> None:
        limiter = open(LimitSettings(quota=100))
        upload = Upload(id="a", length=100, owner="ann")
        await limiter.admit(upload, ME)
        await limiter.progress(upload.evolve(offset=100))
        assert isinstance(await self.refused(limiter, Upload(id="b", length=1, owner="ann")), QuotaExceeded)
        await limiter.forget("a")
        await limiter.forget("a")
        await limiter.admit(Upload(id="b", length=100, owner="ann"), ME)

    async def test_a_deferred_upload_counts_as_far_as_it_has_come(self, open: Open) -> None:
        limiter = open(LimitSettings(quota=100))
        upload = Upload(id="a", length=None, owner="ann")
        await limiter.admit(upload, ME)
        await limiter.progress(upload.evolve(offset=70))
        assert isinstance(await self.refused(limiter, Upload(id="b", length=31, owner="ann")), QuotaExceeded)
        await limiter.admit(Upload(id="c", length=30, owner="ann"), ME)
        assert isinstance(await self.refused(limiter, Upload(id="d", length=None, owner="ann")), QuotaExceeded)
        await limiter.admit(Upload(id="empty", length=0, owner="ann"), ME)

    async def test_a_declared_length_must_fit(self, open: Open) -> None:
        limiter = open(LimitSettings(quota=100))
        await limiter.admit(Upload(id="other", length=50, owner="ann"), ME)
        before = Upload(id="a", length=None, owner="ann", offset=20)
        await limiter.admit(before.evolve(offset=0), ME)
        with pytest.raises(QuotaExceeded):
            await limiter.extend(before, before.evolve(length=51))
        await limiter.extend(before, before.evolve(length=50))
        assert isinstance(await self.refused(limiter, Upload(id="b", length=1, owner="ann")), QuotaExceeded)

    async def test_a_length_that_is_here_already_is_never_too_long(self, open: Open) -> None:
        limiter = open(LimitSettings(quota=100, min_free=0))
        before = Upload(id="a", length=None, owner="ann", offset=120)
        await limiter.admit(before.evolve(offset=0), ME)
        await limiter.progress(before)
        self.room = 0
        await limiter.extend(before, before.evolve(length=120))

    async def test_a_declaration_can_be_taken_back(self, open: Open) -> None:
        limiter = open(LimitSettings(quota=100))
        before = Upload(id="a", length=None, owner="ann", offset=10)
        await limiter.admit(before.evolve(offset=0), ME)
        await limiter.extend(before, before.evolve(length=100))
        await limiter.progress(before)
        await limiter.admit(Upload(id="b", length=90, owner="ann"), ME)

    async def test_a_refused_creation_takes_nothing(self, open: Open) -> None:
        limiter = open(LimitSettings(quota=100, create_rate=2, max_uploads=2))
        for _ in range(5):
            assert isinstance(await self.refused(limiter, Upload(id="large", length=101)), QuotaExceeded)
        await limiter.admit(Upload(id="a", length=50), ME)
        await limiter.admit(Upload(id="b", length=50), ME)

    async def test_of_many_who_race_as_many_win_as_there_is_room_for(self, open: Open) -> None:
        limiter = open(LimitSettings(quota=100))
        results = await asyncio.gather(*(self.refused(limiter, Upload(id=str(n), length=15)) for n in range(20)))
        assert results.count(None) == 6

    async def test_an_upload_that_is_there_keeps_its_entry(self, open: Open) -> None:
        """Its id may be asked for again by a hook; the store then refuses that, and the account stands as it was."""
        limiter = open(LimitSettings(quota=100))
        await limiter.admit(Upload(id="a", length=70), ME)
        await limiter.admit(Upload(id="a", length=20), ME)
        assert isinstance(await self.refused(limiter, Upload(id="b", length=31)), QuotaExceeded)

    # Places

    async def test_only_so_many_uploads_run_at_once(self, open: Open) -> None:
        limiter = open(LimitSettings(max_uploads=2))
        for name in ("a", "b"):
            await limiter.admit(Upload(id=name, length=5, owner=name), ME)
        with pytest.raises(TooManyUploads) as refused:
            await limiter.admit(Upload(id="c", length=5, owner="c"), ME)
        assert int(refused.value.headers["Retry-After"]) > 0
        await limiter.progress(Upload(id="a", length=5, offset=5, owner="a"))
        await limiter.admit(Upload(id="c", length=5, owner="c"), ME)

    async def test_only_so_many_uploads_of_an_owner_run_at_once(self, open: Open) -> None:
        limiter = open(LimitSettings(max_uploads_per_owner=1))
        await limiter.admit(Upload(id="a", length=5, owner="ann"), ME)
        await limiter.admit(Upload(id="b", length=5, owner="bob"), ME)
        assert isinstance(await self.refused(limiter, Upload(id="c", length=5, owner="ann")), TooManyUploads)
        await limiter.forget("a")
        await limiter.admit(Upload(id="c", length=5, owner="ann"), ME)

    async def test_an_upload_without_bytes_for_a_while_does_not_run(self, open: Open, clock: TurnedClock) -> None:
        limiter = open(LimitSettings(max_uploads=1))
        upload = Upload(id="a", length=5)
        await limiter.admit(upload, ME)
        clock.turn(RUNNING - 1)
        assert isinstance(await self.refused(limiter, Upload(id="b", length=5)), TooManyUploads)
        await limiter.progress(upload.evolve(offset=1))
        clock.turn(RUNNING - 1)
        assert isinstance(await self.refused(limiter, Upload(id="b", length=5)), TooManyUploads)
        clock.turn(1)
        await limiter.admit(Upload(id="b", length=5), ME)

    async def test_an_upload_that_comes_back_is_not_refused(self, open: Open, clock: TurnedClock) -> None:
        limiter = open(LimitSettings(max_uploads=1, quota=10))
        await limiter.admit(Upload(id="a", length=5), ME)
        clock.turn(RUNNING)
        await limiter.admit(Upload(id="b", length=5), ME)
        await limiter.progress(Upload(id="a", length=5, offset=1))
        assert isinstance(await self.refused(limiter, Upload(id="c", length=0)), TooManyUploads)

    async def test_finals_take_no_place(self, open: Open) -> None:
        limiter = open(LimitSettings(max_uploads=1))
        await limiter.admit(Upload(id="final", length=5, partials=("x",)), ME)
        await limiter.admit(Upload(id="a", length=5), ME)
        await limiter.admit(Upload(id="another", length=5, partials=("x",)), ME)

    # Rates

    async def test_a_client_creates_a_minutes_worth_at_once_and_then_one_at_a_time(
        self, open: Open, clock: TurnedClock
    ) -> None:
        limiter = open(LimitSettings(create_rate=3))
        for number in range(3):
            await limiter.admit(Upload(id=str(number), length=5), ME)
        with pytest.raises(RateLimited) as refused:
            await limiter.admit(Upload(id="3", length=5), ME)
        assert refused.value.headers["Retry-After"] == "20"
        clock.turn(20)
        await limiter.admit(Upload(id="3", length=5), ME)
        assert isinstance(await self.refused(limiter, Upload(id="4", length=5)), RateLimited)

    async def test_rates_are_owners_and_otherwise_addresses(self, open: Open) -> None:
        limiter = open(LimitSettings(create_rate=1))
        await limiter.admit(Upload(id="a", length=5), ME)
        await limiter.admit(Upload(id="b", length=5), YOU)
        await limiter.admit(Upload(id="c", length=5, owner="ann"), ME)
        assert isinstance(await self.refused(limiter, Upload(id="d", length=5), ME), RateLimited)
        assert isinstance(await self.refused(limiter, Upload(id="d", length=5, owner="ann"), YOU), RateLimited)

    async def test_finals_go_into_debt(self, open: Open, clock: TurnedClock) -> None:
        limiter = open(LimitSettings(create_rate=1))
        await limiter.admit(Upload(id="partial", length=5, is_partial=True), ME)
        await limiter.admit(Upload(id="final", length=5, partials=("partial",)), ME)
        assert isinstance(await self.refused(limiter, Upload(id="again", length=5, partials=("partial",))), RateLimited)
        clock.turn(60)
        assert isinstance(await self.refused(limiter, Upload(id="a", length=5)), RateLimited)
        clock.turn(60)
        await limiter.admit(Upload(id="a", length=5), ME)

    async def test_a_clock_that_is_set_back_shuts_nobody_out(self, open: Open, clock: TurnedClock) -> None:
        limiter = open(LimitSettings(create_rate=1))
        await limiter.admit(Upload(id="a", length=5), ME)
        clock.turn(-86400)
        refused = await self.refused(limiter, Upload(id="b", length=5))
        assert refused is not None and int(refused.headers["Retry-After"]) <= 120

    # Space

    async def test_what_others_still_receive_is_promised_to_them(self, open: Open) -> None:
        limiter = open(LimitSettings(min_free=10))
        self.room = 100
        upload = Upload(id="a", length=60)
        await limiter.admit(upload, ME)
        assert isinstance(await self.refused(limiter, Upload(id="b", length=31)), StorageFull)
        self.room = 50  # fifty bytes of it have come
        await limiter.progress(upload.evolve(offset=50))
        assert isinstance(await self.refused(limiter, Upload(id="b", length=31)), StorageFull)
        await limiter.admit(Upload(id="b", length=30), ME)

    async def test_a_finished_upload_is_promised_nothing(self, open: Open) -> None:
        limiter = open(LimitSettings(min_free=0))
        self.room = 100
        upload = Upload(id="a", length=100)
        await limiter.admit(upload, ME)
        await limiter.progress(upload.evolve(offset=100))
        await limiter.admit(Upload(id="b", length=100), ME)

    async def test_an_unknown_length_needs_only_what_stays_free(self, open: Open) -> None:
        limiter = open(LimitSettings(min_free=10))
        self.room = 10
        before = Upload(id="a", length=None)
        await limiter.admit(before, ME)
        with pytest.raises(StorageFull):
            await limiter.extend(before, before.evolve(length=1))
        self.room = 9
        assert isinstance(await self.refused(limiter, Upload(id="b", length=None)), StorageFull)

    async def test_a_declared_length_is_promised(self, open: Open) -> None:
        limiter = open(LimitSettings(min_free=0))
        self.room = 100
        before = Upload(id="a", length=None)
        await limiter.admit(before, ME)
        await limiter.extend(before, before.evolve(length=80))
        assert isinstance(await self.refused(limiter, Upload(id="b", length=21)), StorageFull)

    # Ending

    async def test_closing_twice_is_no_failure(self, open: Open) -> None:
        limiter = open(LimitSettings(quota=100))
        await limiter.admit(Upload(id="a", length=5), ME)
        await limiter.close()
        await limiter.close()

    async def test_nothing_is_raised_for_what_is_not_there(self, open: Open) -> None:
        limiter = open(LimitSettings(quota=100))
        await limiter.progress(Upload(id="unknown", length=100, offset=100))
        await limiter.forget("unknown")
        await limiter.admit(Upload(id="a", length=100), ME)
