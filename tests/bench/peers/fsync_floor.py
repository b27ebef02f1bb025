"""One after the other: what a durable 4 KiB upload costs when nobody shares a sync. Prints uploads per second.

Run: python fsync_floor.py DIR [SECONDS]. Each file and its record are written and synced, then the directory.
"""

import os
import sys
import time

directory, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
data, record = b"x" * 4096, b"y" * 350
parent = os.open(directory, os.O_RDONLY)
count, started = 0, time.perf_counter()
while time.perf_counter() - started < seconds:
    for name, content in ((f"{directory}/{count}", data), (f"{directory}/{count}.info", record)):
        file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.write(file, content)
        os.fsync(file)
        os.close(file)
    os.fsync(parent)
    count += 1
print(f"{count / (time.perf_counter() - started):.0f}")
