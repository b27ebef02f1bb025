"""Metrics in an application that mounts uploads."""

from __future__ import annotations

from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount

from tusd_py import create_app, create_metrics


async def test_metrics_of_uploads_that_are_mounted(tmp_path: Path) -> None:
    metrics = create_metrics()
    metrics.add_gauge("ours_pages", "Pages that are open.", lambda: {"a": 1, "b": 2}, "page")
    uploads = create_app(tmp_path / "data", observer=metrics.observer)
    host = Starlette(routes=[Mount("/files", uploads), Mount("/metrics", metrics.page)])
    async with uploads.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(host), base_url="http://host") as client:
        head = {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Content-Type": "application/offset+octet-stream"}
        assert (await client.post("/files/", content=b"hello", headers=head)).status_code == 201
        text = (await client.get("/metrics/")).text
    assert "\ntusd_bytes_received 5.0\n" in text
    assert "\ntusd_uploads_finished 1.0\n" in text
    assert '\nours_pages{page="b"} 2.0\n' in text
