"""A process that creates uploads in an account as fast as it can, for `test_processes.py`.

Arguments: directory, name, limits as JSON, bytes free or "disk", length of each upload, how many. Waits for a line on its
standard input, then admits; prints as JSON the ids that were admitted and the codes of the refusals.
"""

from __future__ import annotations

import asyncio
import json
import sys

from tusd_py.limits.rules import LimitSettings
from tusd_py.limits.sqlite import SqliteLimiter
from tusd_py.protocol.refusals import Refusal
from tusd_py.protocol.upload import Upload
from tusd_py.testing.limiter_suite import Uploads


async def main(directory: str, name: str, limits: str, free: str, length: str, count: str) -> None:
    measure = None if free == "disk" else lambda: int(free)
    limiter = SqliteLimiter(directory, LimitSettings(**json.loads(limits)), Uploads(), free=measure)
    admitted, refused = [], []

    async def create(upload_id: str) -> None:
        try:
            await limiter.admit(Upload(id=upload_id, length=int(length)), "192.0.2.1")
        except Refusal as refusal:
            refused.append(refusal.code)
        else:
            admitted.append(upload_id)

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(create(f"{name}-{number}") for number in range(int(count))))
    print(json.dumps({"admitted": admitted, "refused": refused}), flush=True)
    if await asyncio.to_thread(sys.stdin.readline):  # else the process is killed here, or its input has ended
        await limiter.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
