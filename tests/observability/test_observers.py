"""Several observers as one."""

from __future__ import annotations

import pytest

from tests.observability.support import RecordedCall, tell_small_upload
from tusd_py.observability.observers import EVENTS, Observers, combined
from tusd_py.ports.call import Call
from tusd_py.ports.observer import NO_OBSERVER, NoObserver
from tusd_py.protocol.hooks import HookType


class Counting(NoObserver):
    """Cares about requests and syncs."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def request_incoming(self, call: Call) -> None:
        self.told.append(f"request {call.name}")

    def synced(self, duration: float) -> None:
        self.told.append(f"sync {duration}")


class Hooks(NoObserver):
    def __init__(self) -> None:
        self.told: list[str] = []

    def hook_failed(self, kind: HookType, upload_id: str, duration: float, error: str) -> None:
        self.told.append(f"{kind} {upload_id} {duration} {error}")


def test_one_is_itself_and_none_is_nobody() -> None:
    one = Counting()
    assert combined([one]) is one
    assert combined([]) is NO_OBSERVER


@pytest.mark.parametrize("count", [2, 3])
def test_all_are_told(count: int) -> None:
    several = [Counting() for _ in range(count)]
    hooks = Hooks()
    everybody = combined([*several, hooks])
    tell_small_upload(everybody, RecordedCall())
    everybody.hook_failed(HookType.PRE_CREATE, "abc", 0.5, "no")
    assert [one.told for one in several] == [["request POST", "sync 0.01"]] * count
    assert hooks.told == ["pre-create abc 0.5 no"]


def test_what_one_alone_cares_about_costs_no_detour() -> None:
    counting, hooks = Counting(), Hooks()
    both = Observers([counting, hooks])
    assert both.synced == counting.synced
    assert both.hook_failed == hooks.hook_failed
    assert "upload_finished" not in vars(both)


def test_two_may_be_nested() -> None:
    counting, hooks, outer = Counting(), Hooks(), Counting()
    tell_small_upload(combined([combined([counting, hooks]), outer]))
    assert counting.told == outer.told == ["request POST", "sync 0.01"]


def test_everything_that_can_be_told_is_known() -> None:
    assert len(EVENTS) == 14
