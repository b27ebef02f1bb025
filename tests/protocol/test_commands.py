"""Commands."""

from __future__ import annotations

import pytest

from tusd_py.protocol.checksum import Claim
from tusd_py.protocol.commands import Payload


@pytest.mark.parametrize(
    ("payload", "verified"),
    [
        (Payload(5), True),
        (Payload(None), True),
        (Payload(5, Claim("crc32", bytes(4))), False),
        (Payload(None, trailer_claim=True), False),
    ],
)
def test_a_body_without_a_digest_to_wait_for_is_kept_as_it_comes(payload: Payload, verified: bool) -> None:
    assert payload.verified is verified
