"""Which protocol class a server gets."""

from __future__ import annotations

import sys

import pytest
import uvicorn

from tusd_py.transport import UVICORN, http_protocol
from tusd_py.transport.protocol import UploadProtocol


def test_ours_with_its_timeout() -> None:
    ours = http_protocol(network_timeout=12.5)
    assert isinstance(ours, type) and issubclass(ours, UploadProtocol)
    assert ours.network_timeout == 12.5 and UploadProtocol.network_timeout != 12.5


def test_the_installed_uvicorn_is_the_one_we_know() -> None:
    assert uvicorn.__version__.startswith(UVICORN)


@pytest.mark.parametrize("version", ["0.53.9", "0.55.0", "0.540.0", "1.54.0"])
def test_uvicorns_own_with_another_version(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str
) -> None:
    monkeypatch.setattr(uvicorn, "__version__", version)
    assert http_protocol(network_timeout=1) == "auto"
    assert version in caplog.text and "slower" in caplog.text


def test_uvicorns_own_without_httptools(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "httptools", None)
    monkeypatch.delitem(sys.modules, "tusd_py.transport.protocol")
    assert http_protocol(network_timeout=1) == "auto"
    assert "httptools" in caplog.text and "slower" in caplog.text
