"""A `.info` record: tusd's JSON of an upload in a file of its own. One that makes no sense is a damaged record."""

from __future__ import annotations

from collections.abc import Mapping

from tusd_py.ports.failures import RecordDamaged
from tusd_py.protocol.go_json import JsonError
from tusd_py.protocol.upload import Upload
from tusd_py.protocol.upload_json import build_upload, parse_upload

__all__ = ["build_info", "parse_info"]


def build_info(upload: Upload, storage: Mapping[str, str]) -> bytes:
    """The record of `upload`; `storage` is what goes under `Storage`."""
    return build_upload(upload, storage)


def parse_info(data: bytes, upload_id: str) -> Upload:
    """The record in `data`, under the id asked for. Raises `RecordDamaged`."""
    try:
        return parse_upload(data, upload_id)
    except JsonError as error:
        raise RecordDamaged(str(error)) from error
