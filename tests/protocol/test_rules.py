"""What may be done to an upload."""

from __future__ import annotations

import pytest

from tusd_py.protocol.commands import Append, Create, Payload
from tusd_py.protocol.refusals import (
    ConcatenationUnsupported,
    InvalidConcat,
    InvalidUploadLength,
    MaxSizeExceeded,
    MismatchedOffset,
    ModifyFinal,
    Refusal,
    SizeExceeded,
)
from tusd_py.protocol.rules import (
    Policy,
    append_limit,
    check_append,
    check_create,
    check_partials,
    concatenated_length,
    expires_at,
    is_expired,
)
from tusd_py.protocol.upload import MAX_LENGTH, Upload

ANY, SMALL = Policy(), Policy(max_size=100)
NO_PARTS = Policy(concatenation=False)

# command, policy, how many bytes it takes or why it is refused
CREATES: list[tuple[Create, Policy, int | type[Refusal]]] = [
    (Create(length=10), ANY, 10),
    (Create(length=0), ANY, 0),
    (Create(length=MAX_LENGTH), ANY, MAX_LENGTH),
    (Create(length=None), ANY, MAX_LENGTH),
    (Create(length=100), SMALL, 100),
    (Create(length=101), SMALL, MaxSizeExceeded),
    (Create(length=None), SMALL, 100),
    (Create(length=10, payload=Payload(10)), ANY, 10),
    (Create(length=10, payload=Payload(11)), ANY, SizeExceeded),
    (Create(length=10, payload=Payload(None)), ANY, 10),
    (Create(length=None, payload=Payload(100)), SMALL, 100),
    (Create(length=None, payload=Payload(101)), SMALL, MaxSizeExceeded),
    (Create(length=None, payload=Payload(None)), SMALL, 100),
    (Create(length=10, is_partial=True), ANY, 10),
    (Create(length=10, is_partial=True), NO_PARTS, ConcatenationUnsupported),
    (Create(length=None, partials=("a",)), ANY, 0),
    (Create(length=None, partials=("a",)), NO_PARTS, ConcatenationUnsupported),
    (Create(length=None, partials=()), NO_PARTS, ConcatenationUnsupported),
    (Create(length=None, partials=("a",), payload=Payload(0)), ANY, 0),
    (Create(length=None, partials=("a",), payload=Payload(1)), ANY, ModifyFinal),
    (Create(length=None, partials=("a",), payload=Payload(None)), ANY, ModifyFinal),
]


@pytest.mark.parametrize(("command", "policy", "outcome"), CREATES)
def test_create(command: Create, policy: Policy, outcome: int | type[Refusal]) -> None:
    if isinstance(outcome, int):
        assert check_create(command, policy) == outcome
    else:
        with pytest.raises(outcome):
            check_create(command, policy)


def upload(length: int | None, offset: int = 0, **more: object) -> Upload:
    return Upload(id="a", length=length, offset=offset, **more)  # type: ignore[arg-type]


def append(offset: int, body: int | None = 0, length: int | None = None) -> Append:
    return Append(upload_id="a", offset=offset, payload=Payload(body), length=length)


# command, upload, policy, the length afterwards or why it is refused
APPENDS: list[tuple[Append, Upload, Policy, int | type[Refusal] | None]] = [
    (append(0, 10), upload(10), ANY, 10),
    (append(4, 6), upload(10, 4), ANY, 10),
    (append(4, 0), upload(10, 4), ANY, 10),
    (append(4, None), upload(10, 4), ANY, 10),
    (append(4, 7), upload(10, 4), ANY, SizeExceeded),
    (append(10, 0), upload(10, 10), ANY, 10),
    (append(10, None), upload(10, 10), ANY, 10),
    (append(10, 1), upload(10, 10), ANY, SizeExceeded),
    (append(3, 1), upload(10, 4), ANY, MismatchedOffset),
    (append(5, 1), upload(10, 4), ANY, MismatchedOffset),
    (append(9, 0), upload(10, 10), ANY, MismatchedOffset),
    (append(0, 0), upload(0), ANY, 0),
    (append(0, 5), upload(None), ANY, None),
    (append(0, 100), upload(None), SMALL, None),
    (append(50, 51), upload(None, 50), SMALL, MaxSizeExceeded),
    (append(4, 6, length=10), upload(None, 4), ANY, 10),
    (append(4, 0, length=4), upload(None, 4), ANY, 4),
    (append(4, 7, length=10), upload(None, 4), ANY, SizeExceeded),
    (append(4, 0, length=3), upload(None, 4), ANY, InvalidUploadLength),
    (append(0, 0, length=100), upload(None), SMALL, 100),
    (append(0, 0, length=101), upload(None), SMALL, MaxSizeExceeded),
    (append(0, 0, length=10), upload(10), ANY, 10),
    (append(0, 0, length=11), upload(10), ANY, InvalidUploadLength),
    (append(1, 0, length=11), upload(10), ANY, MismatchedOffset),
    (append(0, 5), upload(10, partials=("b",)), ANY, ModifyFinal),
    (append(7, 5), upload(10, partials=("b",)), ANY, ModifyFinal),
    (append(150, 0), upload(200, 150), SMALL, 200),  # made before the limit was
]


@pytest.mark.parametrize(("command", "record", "policy", "outcome"), APPENDS)
def test_append(command: Append, record: Upload, policy: Policy, outcome: int | type[Refusal] | None) -> None:
    if isinstance(outcome, type):
        with pytest.raises(outcome):
            check_append(command, record, policy)
    else:
        assert check_append(command, record, policy) == outcome


def test_a_wrong_offset_is_told_the_right_one() -> None:
    with pytest.raises(MismatchedOffset) as refused:
        check_append(append(3), upload(10, 4), ANY)
    assert refused.value.headers == {"Upload-Offset": "4"}


LIMITS = [
    (0, 10, ANY, 10),
    (4, 10, ANY, 6),
    (10, 10, ANY, 0),
    (4, None, ANY, MAX_LENGTH - 4),
    (4, None, SMALL, 96),
    (150, None, SMALL, 0),
    (4, 200, SMALL, 196),
]


@pytest.mark.parametrize(("offset", "length", "policy", "limit"), LIMITS)
def test_limits(offset: int, length: int | None, policy: Policy, limit: int) -> None:
    assert append_limit(Upload(id="x", length=length, offset=offset), length, policy) == limit


def test_a_limit_of_the_uploads_own_counts_beside_the_servers() -> None:
    mine = Upload(id="x", length=None, offset=4, max_size=50)
    assert append_limit(mine, None, ANY) == append_limit(mine, None, SMALL) == 46
    assert append_limit(mine.evolve(max_size=150), None, SMALL) == 96
    with pytest.raises(MaxSizeExceeded):
        check_append(Append(upload_id="x", offset=4, length=51, payload=Payload(0)), mine, SMALL)
    with pytest.raises(MaxSizeExceeded):
        check_create(Create(length=51), SMALL, 50)
    assert check_create(Create(length=None), SMALL, 50) == 50


def partial(length: int | None) -> Upload:
    return upload(length, is_partial=True)


LENGTHS = [([], 0), ([5], 5), ([5, 0, 7], 12), ([5, None], None), ([None, None], None)]


@pytest.mark.parametrize(("lengths", "total"), LENGTHS)
def test_the_length_of_a_final(lengths: list[int | None], total: int | None) -> None:
    assert concatenated_length(map(partial, lengths)) == total
    assert check_partials(map(partial, lengths), ANY) == total


@pytest.mark.parametrize("lengths", [[101], [50, 51]])
def test_a_final_has_a_maximum_too(lengths: list[int]) -> None:
    with pytest.raises(MaxSizeExceeded):
        check_partials(map(partial, lengths), SMALL)


def test_undeclared_lengths_may_still_fit() -> None:
    assert check_partials([partial(100), partial(None)], SMALL) is None


@pytest.mark.parametrize("other", [upload(5), upload(5, partials=("b",)), upload(5, partials=("b",), is_partial=True)])
def test_a_final_is_made_of_partials(other: Upload) -> None:
    with pytest.raises(InvalidConcat, match="not a partial"):
        check_partials([partial(5), other], ANY)


HOUR = Policy(expiry=3600.0)

EXPIRIES = [
    (upload(10, active_at=1000.0), ANY, None),
    (upload(10, active_at=1000.0), HOUR, 4600.0),
    (upload(None, active_at=1000.0), HOUR, 4600.0),
    (upload(10, 10, active_at=1000.0), HOUR, None),
    (upload(0, active_at=1000.0), HOUR, None),
    (upload(10, 10, partials=("b",), failure="gone", active_at=1000.0), HOUR, 4600.0),
]


@pytest.mark.parametrize(("record", "policy", "deadline"), EXPIRIES)
def test_expiry(record: Upload, policy: Policy, deadline: float | None) -> None:
    assert expires_at(record, policy) == deadline
    if deadline is None:
        assert not is_expired(record, policy, 1e12)
    else:
        assert not is_expired(record, policy, deadline - 0.001)
        assert is_expired(record, policy, deadline)


def test_the_ceiling() -> None:
    assert ANY.ceiling == MAX_LENGTH
    assert SMALL.ceiling == 100
    assert Policy(max_size=0).ceiling == 0
