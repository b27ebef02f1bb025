"""A process that uses an outbox until it is killed, and says on its output what it is about to do and what it has done.

`python -m tests.outbox.worker STATE_DIR FIRST`: uploads are numbered from FIRST. Each line is written at once, so that whoever
reads the pipe knows all that had happened before the kill.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from dataclasses import replace

from tusd_py.outbox.sqlite import SqliteOutbox
from tusd_py.ports.events import EventState
from tusd_py.protocol.hooks import HookType
from tusd_py.testing.outbox_suite import event

CREATE, RECEIVE, FINISH = HookType.POST_CREATE, HookType.POST_RECEIVE, HookType.POST_FINISH


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def upload(outbox: SqliteOutbox, name: str, chance: random.Random) -> None:
    """An upload's life: begun, perhaps finished, perhaps given up."""
    say("prepare", name)
    await outbox.prepare([event(name, CREATE), event(name, FINISH)], ["hooks"])
    say("prepared", name)
    for kind in (CREATE, RECEIVE, FINISH):
        if kind is FINISH and chance.random() < 0.2:
            say("withdraw", name)
            await outbox.withdraw(name, [FINISH])
            say("withdrawn", name)
            return
        if kind is FINISH and chance.random() < 0.2:
            return
        say("confirm", name, kind)
        await outbox.confirm(event(name, kind), ["hooks"])
        say("confirmed", name, kind)


async def upload_for_ever(outbox: SqliteOutbox, first: int, step: int, chance: random.Random) -> None:
    number = first
    while True:
        await upload(outbox, str(number), chance)
        number += step


async def deliver_for_ever(outbox: SqliteOutbox, chance: random.Random) -> None:
    while True:
        claimed = await outbox.claim("hooks", chance.randint(1, 5))
        for stored in claimed:
            say("claimed", stored.event.upload.id, stored.event.type, stored.event.id)
        failed = [stored for stored in claimed if chance.random() < 0.2]
        delivered = [stored for stored in claimed if stored not in failed]
        for stored in delivered:
            say("settle", stored.event.id)
        await outbox.settle(
            [replace(stored, state=EventState.DELIVERED) for stored in delivered],
            [replace(stored, attempts=stored.attempts + 1, error="no") for stored in failed],
        )
        for stored in delivered:
            say("settled", stored.event.id)
        if not claimed:
            await asyncio.sleep(0.001)


async def main(state_dir: str, first: int) -> None:
    outbox, chance = SqliteOutbox(state_dir), random.Random(first)
    uploading = [upload_for_ever(outbox, first + each, 4, chance) for each in range(4)]
    await asyncio.gather(deliver_for_ever(outbox, chance), *uploading)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
