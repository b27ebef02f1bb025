"""The extension inside a server: takes finished uploads in, serves them, and gives up their files where that is wanted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tusd_py.ports.extension import Place
from tusd_py.ports.failures import StorageFailure
from tusd_py.protocol.hooks import HookType
from tusd_py_cas.ingest.client import IngestProcess
from tusd_py_cas.model import RepositoryError
from tusd_py_cas.options import REPLACE
from tusd_py_cas.repository import Repository, new_parameters
from tusd_py_cas.serving.opened import OpenedCas

__all__ = ["DIRECTORY", "open_cas"]

_log = logging.getLogger("tusd_py.cas")

DIRECTORY = "cas"
"""Of the repository, in the state directory."""


def open_cas(values: Mapping[str, Any], place: Place) -> OpenedCas:
    """Open the repository, or make one, with the values of `tusd_py_cas.options`, where it is not off. Blocks.

    Raises `StorageFailure` where the repository can't be used, `ValueError` for values that can't be.
    """
    if values["cas"] == REPLACE and not place.keeps_events:
        raise ValueError(
            "-cas=replace gives a file up once everybody has been told of its upload, which -events=fire-and-forget does not "
            "know: expected -cas=keep or -events=durable"
        )
    size: int = values["cas-chunk-size"]
    path = f"{place.state_dir}/{DIRECTORY}"
    try:
        repository = Repository.open(path, create=new_parameters(size), durable=place.durable)
    except RepositoryError as error:
        raise StorageFailure(str(error)) from error
    if repository.parameters.avg_size != size:
        fields = {"wanted": size, "used": repository.parameters.avg_size}
        _log.warning("the average size of chunks is that with which the repository was made", extra={"fields": fields})
    process = IngestProcess(path, level=values["cas-level"], threads=values["cas-threads"], durable=place.durable)
    return OpenedCas(
        repository,
        process,
        replaces=values["cas"] == REPLACE,
        gc_interval=values["cas-gc-interval"],
        gc_grace=values["cas-gc-grace"],
        tells=HookType.POST_INGEST in place.told and place.keeps_events,
    )
