"""Which path is answered by what."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from tests.observability.asgi import ask
from tusd_py.asgi.metrics import MetricsPage
from tusd_py.asgi.site import Site
from tusd_py.settings import Settings, SettingsError


def named(name: str) -> ASGIApp:
    return PlainTextResponse(name)


PAGES = {"/metrics": named("metrics"), "/health": named("health"), "/files/ready": named("ready")}


@pytest.mark.parametrize(
    ("base", "method", "path", "answer"),
    [
        ("/files/", "GET", "/metrics", "metrics"),
        ("/files/", "POST", "/health", "health"),
        ("/files/", "GET", "/files/abc", "uploads"),
        ("/files/", "GET", "/files/metrics", "uploads"),
        ("/files/", "POST", "/files", "uploads"),
        ("/files/", "GET", "/files/ready", "ready"),
        ("/files/", "HEAD", "/files/ready", "ready"),
        ("/files/", "PATCH", "/files/ready", "uploads"),
        ("/files/", "GET", "/files/ready/", "uploads"),
        ("/", "GET", "/metrics", "metrics"),
        ("/", "HEAD", "/health", "health"),
        ("/", "PATCH", "/health", "uploads"),
        ("/", "DELETE", "/metrics", "uploads"),
        ("/", "POST", "/", "uploads"),
        ("/", "GET", "/metrics/", "uploads"),
    ],
)
async def test_paths(base: str, method: str, path: str, answer: str) -> None:
    site = Site(named("uploads"), base, greeting=True, pages=PAGES)
    assert (await ask(site, path, method)).body == answer


async def test_other_paths_are_greeted_or_not_found() -> None:
    assert (await ask(Site(named("uploads"), "/files/", greeting=True, pages=PAGES), "/x")).status == 200
    assert (await ask(Site(named("uploads"), "/files/", greeting=False, pages=PAGES), "/x")).status == 404
    assert (await ask(Site(named("uploads"), "/files/", greeting=False), "/metrics")).status == 404


async def test_the_page_of_metrics() -> None:
    async def scrape() -> bytes:
        return b"tusd_x 1\n"

    page = MetricsPage(scrape, "text/plain; version=0.0.4; charset=utf-8")
    answer = await ask(page)
    assert (answer.status, answer.body) == (200, "tusd_x 1\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (await ask(page, method="POST")).status == 405


async def test_metrics_that_take_too_long() -> None:
    async def scrape() -> bytes:
        raise TimeoutError

    assert (await ask(MetricsPage(scrape, "text/plain"))).status == 503


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"metrics_path": "metrics"}, "-metrics-path is 'metrics': expected a path such as /metrics"),
        ({"metrics_path": ""}, "-metrics-path is '': expected a path"),
        ({"health_path": "/health?x"}, "-health-path is '/health\\?x': expected a path"),
        ({"ready_path": "/health"}, "-ready-path is '/health', which is the path of -health-path: expected another one"),
        ({"metrics_path": "/files/"}, "-metrics-path is '/files/', which is the path of -base-path"),
        ({"health_path": "/files"}, "-health-path is '/files', which is the path of -base-path"),
        ({"traces_endpoint": "localhost:4318"}, "-traces-endpoint is 'localhost:4318': expected a URL"),
    ],
)
def test_paths_that_make_no_sense(settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        Settings(**settings)  # type: ignore[arg-type]


def test_pages_that_are_switched_off_have_no_path() -> None:
    Settings(health_path="", ready_path="")
    Settings(expose_metrics=False, metrics_path="/health")
    Settings(base_path="/")
