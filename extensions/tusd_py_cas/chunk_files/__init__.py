"""The files of chunks: written so that a file under its final name is whole, and read so that its bytes have their name.

Which chunks there are is for the index to say. A file without a row there is an orphan, harmless and overwritten by whoever
stores the chunk. Nothing that lies in these directories is trusted: paths are made of names of 32 bytes alone, and what is no
regular file of the right size is a damaged chunk.
"""

from __future__ import annotations

from tusd_py_cas.chunk_files.adapter import ChunkFiles
from tusd_py_cas.chunk_files.walking import Found

__all__ = ["ChunkFiles", "Found"]
