"""What may be created: tables of figures and verdicts."""

from __future__ import annotations

from typing import Any

import pytest

from tusd_py.limits.entries import Entry
from tusd_py.limits.rules import Figures, LimitSettings, arrival_after, client_key, judge, judge_length
from tusd_py.protocol.refusals import QuotaExceeded, RateLimited, Refusal, StorageFull, TooManyUploads
from tusd_py.protocol.upload import MAX_LENGTH, Upload

NOW = 1_000_000.0

Case = tuple[dict[str, Any], dict[str, Any], dict[str, Any], type[Refusal] | None]

FINAL = {"partials": ("a",)}

CREATIONS: list[Case] = [
    # limits, figures, upload (length 10 unless it says otherwise), verdict
    ({}, {"stored": MAX_LENGTH, "running": 999, "free": 0}, {}, None),
    ({"quota": 10}, {"stored": 0}, {}, None),
    ({"quota": 10}, {"stored": 1}, {}, QuotaExceeded),
    ({"quota": 9}, {"stored": 0}, {}, QuotaExceeded),
    ({"quota": 10}, {"stored": 9}, {"length": None}, None),
    ({"quota": 10}, {"stored": 10}, {"length": None}, QuotaExceeded),
    ({"quota": 10}, {"stored": 10}, {"length": 0}, None),
    ({"quota": 10}, {"stored": 99}, {"length": 0}, None),
    ({"quota": 10}, {"stored": 1}, FINAL, QuotaExceeded),
    ({"quota": MAX_LENGTH}, {"stored": MAX_LENGTH - 10}, {}, None),
    ({"max_uploads": 2}, {"running": 1}, {}, None),
    ({"max_uploads": 2}, {"running": 2}, {}, TooManyUploads),
    ({"max_uploads": 2}, {"running": 3}, {"length": 0}, TooManyUploads),
    ({"max_uploads": 2}, {"running": 2}, FINAL, None),
    ({"max_uploads_per_owner": 2}, {"running": 9, "running_of_owner": 1}, {}, None),
    ({"max_uploads_per_owner": 2}, {"running": 9, "running_of_owner": 2}, {}, TooManyUploads),
    ({"max_uploads": 2, "max_uploads_per_owner": 5}, {"running": 2}, {}, TooManyUploads),
    ({"min_free": 0}, {"free": 10}, {}, None),
    ({"min_free": 0}, {"free": 9}, {}, StorageFull),
    ({"min_free": 0}, {"free": 30, "awaited": 20}, {}, None),
    ({"min_free": 0}, {"free": 29, "awaited": 20}, {}, StorageFull),
    ({"min_free": 5}, {"free": 35, "awaited": 20}, {}, None),
    ({"min_free": 5}, {"free": 34, "awaited": 20}, {}, StorageFull),
    ({"min_free": 5}, {"free": 5}, {"length": None}, None),
    ({"min_free": 5}, {"free": 4}, {"length": None}, StorageFull),
    ({"min_free": 5}, {"free": 4}, {"length": 0}, StorageFull),
    ({"min_free": 0}, {"free": 9}, FINAL, StorageFull),
    ({"create_rate": 6}, {"arrival": 0}, {}, None),
    ({"create_rate": 6}, {"arrival": NOW + 50}, {}, None),
    ({"create_rate": 6}, {"arrival": NOW + 50.1}, {}, RateLimited),
    ({"create_rate": 6}, {"arrival": NOW + 60}, FINAL, None),
    ({"create_rate": 6}, {"arrival": NOW + 110}, FINAL, None),
    ({"create_rate": 6}, {"arrival": NOW + 111}, FINAL, RateLimited),
    # what passes soonest is told first
    ({"create_rate": 1, "max_uploads": 0, "quota": 0}, {"arrival": NOW + 60}, {}, RateLimited),
    ({"max_uploads": 0, "quota": 0, "min_free": 99}, {}, {}, TooManyUploads),
    ({"quota": 0, "min_free": 99}, {}, {}, QuotaExceeded),
]


@pytest.mark.parametrize(("limits", "figures", "upload", "verdict"), CREATIONS)
def test_creations(
    limits: dict[str, Any], figures: dict[str, Any], upload: dict[str, Any], verdict: type[Refusal] | None
) -> None:
    made = Upload(**{"id": "a", "length": 10, **upload})
    refusal = judge(made, LimitSettings(**limits), Figures(**figures), NOW)
    assert (None if refusal is None else type(refusal)) is verdict


DECLARATIONS: list[Case] = [
    # limits, figures, upload with its length, verdict
    ({"quota": 10}, {"stored": 0}, {"length": 10, "offset": 3}, None),
    ({"quota": 10}, {"stored": 1}, {"length": 10, "offset": 3}, QuotaExceeded),
    ({"quota": 10}, {"stored": 99}, {"length": 10, "offset": 10}, None),
    ({"min_free": 0}, {"free": 7}, {"length": 10, "offset": 3}, None),
    ({"min_free": 0}, {"free": 6}, {"length": 10, "offset": 3}, StorageFull),
    ({"min_free": 9}, {"free": 0}, {"length": 10, "offset": 10}, None),
    ({"max_uploads": 0, "create_rate": 1}, {"running": 9, "arrival": NOW + 99}, {"length": 10}, None),
]


@pytest.mark.parametrize(("limits", "figures", "upload", "verdict"), DECLARATIONS)
def test_declarations(
    limits: dict[str, Any], figures: dict[str, Any], upload: dict[str, Any], verdict: type[Refusal] | None
) -> None:
    refusal = judge_length(Upload(id="a", **upload), LimitSettings(**limits), Figures(**figures))
    assert (None if refusal is None else type(refusal)) is verdict


WAITS = [
    # rate, time up to which it is used, seconds to wait
    (1, NOW + 0.5, 1),
    (1, NOW + 60, 60),
    (60, NOW + 59.5, 1),
    (60, NOW + 60, 1),
    (2, NOW + 60, 30),
    (2, NOW + 10_000, 90),  # the clock was set back
]


@pytest.mark.parametrize(("rate", "arrival", "seconds"), WAITS)
def test_who_is_refused_is_told_when_to_come_again(rate: int, arrival: float, seconds: int) -> None:
    limits, figures = LimitSettings(create_rate=rate), Figures(arrival=arrival)
    refusal = judge(Upload(id="a", length=1), limits, figures, NOW)
    assert isinstance(refusal, RateLimited)
    assert refusal.headers == {"Retry-After": str(seconds)}
    if arrival <= NOW + 60:
        assert judge(Upload(id="a", length=1), limits, figures, NOW + seconds) is None


@pytest.mark.parametrize("rate", [1, 7, 60, 1000, 1_000_000])
def test_a_minutes_worth_at_once(rate: int) -> None:
    arrival, count = 0.0, 0
    while judge(Upload(id="a", length=1), LimitSettings(create_rate=rate), Figures(arrival=arrival), NOW) is None:
        arrival = arrival_after(arrival, NOW, rate)
        count += 1
        if count > 2000:
            break
    assert count == rate or rate > 2000


CLIENTS = [
    # owner, address, whose rate
    ("ann", "192.0.2.1", "owner ann"),
    (None, "192.0.2.1", "client 192.0.2.1"),
    ("", "192.0.2.1", "client 192.0.2.1"),
    (None, "::ffff:192.0.2.1", "client 192.0.2.1"),
    (None, "2001:db8:1:2:3:4:5:6", "client 2001:db8:1:2::/64"),
    (None, "2001:db8:1:2:ffff::1", "client 2001:db8:1:2::/64"),
    (None, "[2001:db8:1:2::1]", "client 2001:db8:1:2::/64"),
    (None, "fe80::1%eth0", "client fe80::/64"),
    (None, "", "client "),
    (None, "unix:", "client unix:"),
]


@pytest.mark.parametrize(("owner", "address", "key"), CLIENTS)
def test_whose_rate_it_is(owner: str | None, address: str, key: str) -> None:
    assert client_key(owner, address) == key


ENTRIES = [
    # upload, bytes that count, bytes that are to come, whether it runs
    (Upload(id="a", length=10), 10, 10, True),
    (Upload(id="a", length=10, offset=4), 10, 6, True),
    (Upload(id="a", length=10, offset=10), 10, 0, False),
    (Upload(id="a", length=10, offset=10, held=True), 10, 0, False),
    (Upload(id="a", length=None, offset=4), 4, 0, True),
    (Upload(id="a", length=10, partials=("b",)), 10, 10, False),
    (Upload(id="a", length=10, offset=10, partials=("b",)), 10, 0, False),
    (Upload(id="a", length=10, partials=("b",), failure="gone"), 0, 0, False),
    (Upload(id="a", length=None, partials=("b",)), 0, 0, False),
]


@pytest.mark.parametrize(("upload", "stored", "awaited", "runs"), ENTRIES)
def test_what_counts_of_an_upload(upload: Upload, stored: int, awaited: int, runs: bool) -> None:
    entry = Entry.of(upload, NOW)
    assert (entry.stored, entry.awaited, entry.runs(NOW - 1)) == (stored, awaited, runs)
    assert not entry.runs(NOW)


def test_what_can_never_be_finished_is_over() -> None:
    assert Entry.of(Upload(id="a", length=10, partials=("b",), failure="gone"), NOW).finished
    assert not Entry.of(Upload(id="a", length=10, partials=("b",)), NOW).finished


def test_no_limit_is_none() -> None:
    assert not LimitSettings().any
    assert LimitSettings(min_free=0).any
