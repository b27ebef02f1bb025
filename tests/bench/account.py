"""What an account of uploads costs: microseconds of processor time for one upload, admitted, followed, finished, forgotten.

Run: python -m tests.bench.account DIR [UPLOADS_THERE_ALREADY ...]. All limits are set. DIR has to be empty.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from pathlib import Path

from tusd_py.limits.rules import LimitSettings
from tusd_py.limits.sqlite import SqliteLimiter
from tusd_py.protocol.upload import MAX_LENGTH, Upload
from tusd_py.testing.limiter_suite import Uploads

LIMITS = LimitSettings(quota=MAX_LENGTH, max_uploads=10**6, max_uploads_per_owner=10**6, create_rate=10**9, min_free=0)
ROUNDS = 2000

FILL = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
INSERT INTO uploads (id, owner, length, offset, created_at, active_at, finished, final, touched_at, seen_at)
    SELECT 'there ' || n, '', 1000, 1000, 0, 0, 1, 0, 0, 0 FROM numbers
"""


async def measure(directory: Path, there: int) -> float:
    limiter = SqliteLimiter(str(directory), LIMITS, Uploads())
    await limiter.forget("")
    with sqlite3.connect(directory / ".tusd-py" / "account.db") as connection:
        connection.execute(FILL, {"count": there})
    started = time.process_time()
    for number in range(ROUNDS):
        upload = Upload(id=f"new {number}", length=1000)
        await limiter.admit(upload, "192.0.2.1")
        await limiter.progress(upload.evolve(offset=500))
        await limiter.progress(upload.evolve(offset=1000))
        await limiter.forget(upload.id)
    took = time.process_time() - started
    await limiter.close()
    return took / ROUNDS


if __name__ == "__main__":
    for count in map(int, sys.argv[2:] or ["0", "1000000"]):
        where = Path(sys.argv[1]) / str(count)
        where.mkdir()
        print(f"{count} uploads there already: {asyncio.run(measure(where, count)) * 1e6:.0f} us")
