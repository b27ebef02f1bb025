"""Every flag of tusd has the verdict that the code has, and the sentences of those that are refused are the code's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tusd_py.cli.uncovered import UNCOVERED
from tusd_py.settings import described

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
PAGE = REFERENCE / "tusd-compatibility.md"

# cmd/tusd/cli/flags.go.
TUSD = re.findall(
    r"\S+",
    """
    host port unix-sock base-path behind-proxy enable-h2c
    tls-certificate tls-key tls-mode
    enable-experimental-protocol disable-download disable-termination disable-concatenation max-size
    disable-cors cors-allow-origin cors-allow-credentials cors-allow-methods cors-allow-headers cors-max-age cors-expose-headers
    upload-dir dir-perms file-perms filelock-holder-poll-interval filelock-acquirer-poll-interval
    s3-bucket s3-object-prefix s3-endpoint s3-part-size s3-min-part-size s3-max-buffered-parts s3-concurrent-part-uploads
    s3-disable-content-hashes s3-disable-ssl s3-transfer-acceleration s3-log-api-calls
    gcs-bucket gcs-object-prefix gcs-endpoint
    azure-storage azure-container-access-type azure-blob-access-tier azure-object-prefix azure-endpoint
    hooks-enabled-events progress-hooks-interval hooks-dir
    hooks-http hooks-http-forward-headers hooks-http-retry hooks-http-backoff hooks-http-timeout hooks-http-size-limit
    hooks-http-skip-verify
    hooks-grpc hooks-grpc-retry hooks-grpc-backoff hooks-grpc-secure hooks-grpc-server-tls-certificate
    hooks-grpc-client-tls-certificate hooks-grpc-client-tls-key hooks-grpc-forward-headers hooks-plugin
    expose-metrics metrics-path expose-pprof pprof-path pprof-block-profile-rate pprof-mutex-profile-rate
    show-greeting version verbose show-startup-logs log-format
    network-timeout shutdown-timeout acquire-lock-timeout request-completion-timeout
    """,
)

OURS_TOO = {"version"}
"""Flags that are no settings."""


def rows(page: Path) -> dict[str, list[str]]:
    """The cells behind the first, by the flag in the first."""
    found = re.findall(r"^\| `-([\w-]+)` \| (.*) \|$", page.read_text(), re.MULTILINE)
    assert len(found) == len({flag for flag, _ in found}), "a flag stands twice"
    return {flag: [cell.strip() for cell in rest.split(" | ")] for flag, rest in found}


REFUSED = {flag: cells[0] for flag, cells in rows(PAGE).items()}
SETTINGS = {one.tusd: one for one in described() if one.tusd}


def verdict_of_the_code(flag: str) -> set[str]:
    if flag in REFUSED:
        return {"refused"}
    if flag in UNCOVERED or (flag in SETTINGS and SETTINGS[flag].help.startswith("Without effect")):
        return {"no effect"}
    assert flag in SETTINGS or flag in OURS_TOO
    return {"same", "better"}


@pytest.mark.parametrize("flag", TUSD)
def test_the_table_of_flags_has_the_verdict_of_the_code(flag: str) -> None:
    verdict, note = (*rows(REFERENCE / "flags.md")[flag], "")[:2]
    assert verdict in verdict_of_the_code(flag)
    assert note or verdict == "same", "what is not the same has a note"


def test_nothing_else_is_said_to_be_tusds() -> None:
    assert len(TUSD) == len(set(TUSD))
    assert set(rows(REFERENCE / "flags.md")) == set(TUSD)
    assert set(SETTINGS) | set(UNCOVERED) | OURS_TOO == set(TUSD)
    assert f"Of the {len(TUSD)} flags of tusd" in PAGE.read_text()


@pytest.mark.parametrize("flag", TUSD)
def test_flags_are_refused_where_the_page_says_so_and_with_its_sentence(flag: str, tmp_path: Path) -> None:
    """The command is asked for everything that the flag could mean; what is refused is refused before anything is opened."""
    if flag not in REFUSED:
        assert UNCOVERED.get(flag) is None
        return
    boolean = flag.startswith(("enable-", "expose-"))
    command = [sys.executable, "-m", "tusd_py", f"-{flag}" + ("" if boolean else "=x"), f"-upload-dir={tmp_path / 'data'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"tusd-py: {REFUSED[flag]}\n")
    assert not (tmp_path / "data").exists()
