"""What the port of limits promises about recovery: the account is made true by the records, whatever a crash has left."""

from __future__ import annotations

from tusd_py.limits.recovery import GRACE
from tusd_py.limits.rules import LimitSettings
from tusd_py.protocol.refusals import QuotaExceeded, TooManyUploads
from tusd_py.protocol.upload import Upload
from tusd_py.testing.limiter_support import ME, LimiterTests, Open, TurnedClock, Uploads

__all__ = ["LimiterRecoverySuite"]


class LimiterRecoverySuite(LimiterTests):
    """A part of `LimiterSuite`."""

    async def test_uploads_that_were_there_before_are_counted(self, open: Open, uploads: Uploads, clock: TurnedClock) -> None:
        now = clock.now
        uploads.put(
            Upload(id="done", length=50, offset=50, active_at=now), Upload(id="half", length=40, offset=3, active_at=now)
        )
        uploads.damaged.add("damaged")
        limiter = open(LimitSettings(quota=100, max_uploads=2))
        await limiter.recover()
        assert isinstance(await self.refused(limiter, Upload(id="a", length=11)), QuotaExceeded)
        await limiter.admit(Upload(id="a", length=10), ME)
        assert isinstance(await self.refused(limiter, Upload(id="b", length=0)), TooManyUploads)

    async def test_what_was_never_made_is_taken_out_when_it_is_old(
        self, open: Open, uploads: Uploads, clock: TurnedClock
    ) -> None:
        limiter = open(LimitSettings(quota=100))
        await limiter.admit(Upload(id="made", length=40), ME)
        await limiter.admit(Upload(id="never made", length=60), ME)
        uploads.put(Upload(id="made", length=40, active_at=clock.now))
        clock.turn(GRACE)
        await limiter.recover()
        assert isinstance(await self.refused(limiter, Upload(id="a", length=1)), QuotaExceeded), "it may still be made"
        clock.turn(1)
        await limiter.recover()
        assert isinstance(await self.refused(limiter, Upload(id="a", length=61)), QuotaExceeded)
        await limiter.admit(Upload(id="a", length=60), ME)

    async def test_a_record_that_cannot_be_read_keeps_its_entry(self, open: Open, uploads: Uploads, clock: TurnedClock) -> None:
        limiter = open(LimitSettings(quota=100))
        await limiter.admit(Upload(id="damaged", length=60), ME)
        uploads.damaged.add("damaged")
        clock.turn(GRACE + 1)
        await limiter.recover()
        assert isinstance(await self.refused(limiter, Upload(id="a", length=41)), QuotaExceeded)

    async def test_a_wrong_entry_is_corrected(self, open: Open, uploads: Uploads, clock: TurnedClock) -> None:
        limiter = open(LimitSettings(quota=100))
        await limiter.admit(Upload(id="a", length=None), ME)
        uploads.put(Upload(id="a", length=90, offset=3, active_at=clock.now))
        clock.turn(1)
        await limiter.recover()
        assert isinstance(await self.refused(limiter, Upload(id="b", length=11)), QuotaExceeded)

    async def test_what_serving_tells_is_newer_than_a_record_read_before(
        self, open: Open, uploads: Uploads, clock: TurnedClock
    ) -> None:
        limiter = open(LimitSettings(max_uploads=1))
        upload = Upload(id="a", length=5, active_at=clock.now)
        await limiter.admit(upload, ME)
        uploads.put(upload)
        clock.turn(1)

        async def finish_meanwhile(_: str) -> None:
            uploads.on_load = None
            await limiter.progress(upload.evolve(offset=5))

        uploads.on_load = finish_meanwhile
        await limiter.recover()
        await limiter.admit(Upload(id="b", length=5), ME)

    async def test_an_upload_that_goes_during_recovery_is_not_entered(self, open: Open, uploads: Uploads) -> None:
        limiter = open(LimitSettings(quota=100))
        uploads.put(Upload(id="a", length=100))

        async def remove_meanwhile(upload_id: str) -> None:
            uploads.on_load = None
            del uploads.records[upload_id]
            await limiter.forget(upload_id)

        uploads.on_load = remove_meanwhile
        await limiter.recover()
        await limiter.admit(Upload(id="b", length=100), ME)

    async def test_a_final_that_failed_takes_no_room(self, open: Open, uploads: Uploads) -> None:
        uploads.put(Upload(id="final", length=100, partials=("x",), failure="a partial is gone"))
        limiter = open(LimitSettings(quota=100, min_free=0))
        self.room = 100
        await limiter.recover()
        await limiter.admit(Upload(id="a", length=100), ME)

    async def test_many_uploads_are_recovered(self, open: Open, uploads: Uploads, clock: TurnedClock) -> None:
        uploads.put(*(Upload(id=f"u{number}", length=1, active_at=clock.now) for number in range(1000)))
        limiter = open(LimitSettings(quota=1001))
        await limiter.recover()
        assert isinstance(await self.refused(limiter, Upload(id="a", length=2)), QuotaExceeded)
        uploads.records.clear()
        clock.turn(GRACE + 1)
        await limiter.recover()
        await limiter.admit(Upload(id="a", length=1001), ME)

    async def test_a_record_that_has_been_found_is_not_looked_for_again(
        self, open: Open, uploads: Uploads, clock: TurnedClock
    ) -> None:
        """A second look at each of a million uploads would be as dear as the first."""
        limiter = open(LimitSettings(quota=100))
        upload = Upload(id="a", length=5, active_at=clock.now)
        await limiter.admit(upload, ME)
        uploads.put(upload)
        clock.turn(GRACE + 1)
        looks = []

        async def count(upload_id: str) -> None:
            looks.append(upload_id)

        uploads.on_load = count
        await limiter.recover()
        assert looks == ["a"]
