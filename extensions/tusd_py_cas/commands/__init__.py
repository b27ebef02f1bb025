"""`tusd-py cas ...`: look into the repository below an upload directory, take contents out of it or into it, keep it well."""

from __future__ import annotations

from tusd_py.ports.extension import FindUploadDir

__all__ = ["main"]


def main(arguments: list[str], find_upload_dir: FindUploadDir) -> int:
    """Run a subcommand of `tusd-py cas`; returns the exit status (see `outcomes`)."""
    from tusd_py_cas.commands.application import run  # which loads everything

    return run(arguments, find_upload_dir)
