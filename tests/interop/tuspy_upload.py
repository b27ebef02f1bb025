"""One upload by stock tuspy in a process of its own, because tuspy leaves files and sockets to the garbage collector.

A JSON object on stdin says what to upload (test_tuspy.py: `Tuspy`), one on stdout what came of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.storage.filestorage import FileStorage
from tusclient.uploader import AsyncUploader, Uploader


class Corrupting:
    """Uploaders that send the digest of other data."""

    @property
    def checksum_algorithm(self) -> Any:
        real = super().checksum_algorithm  # type: ignore[misc]
        return lambda data: real(data + b"!")


class CorruptingUploader(Corrupting, Uploader): ...


class CorruptingAsyncUploader(Corrupting, AsyncUploader): ...


KINDS = {
    "blocking": Uploader,
    "asyncio": AsyncUploader,
    "blocking-corrupting": CorruptingUploader,
    "asyncio-corrupting": CorruptingAsyncUploader,
}


def main() -> None:
    task = json.load(sys.stdin)
    options = task["options"]
    if storage := task["storage"]:
        options |= {"store_url": True, "url_storage": FileStorage(storage)}
    uploader = KINDS[task["how"]](task["file"], client=TusClient(task["endpoint"], headers=task.get("headers")), **options)
    begun_at, error = uploader.offset, None
    try:
        done = uploader.upload(stop_at=task["stop_at"])
        if asyncio.iscoroutine(done):
            asyncio.run(done)
    except TusCommunicationError as failure:
        error = failure.status_code or str(failure)
    json.dump({"url": uploader.url, "begun_at": begun_at, "offset": uploader.offset, "error": error}, sys.stdout)


if __name__ == "__main__":
    main()
