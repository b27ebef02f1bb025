"""Who lives."""

from __future__ import annotations

from pathlib import Path


def processes_of(leader: int) -> list[int]:
    """The processes of a server: those in the session that its first process leads."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                threads = sum(1 for _ in (entry / "task").iterdir())
            except OSError:  # it has ended meanwhile
                continue
            # Of a process that was killed the first thread is a zombie at once, while others have its files open still.
            if int(fields[3]) == leader and (fields[0] != "Z" or threads > 1):
                found.append(int(entry.name))
    return found
