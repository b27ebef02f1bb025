"""The index in a SQLite database: which chunks there are, what contents are made of, what uploads have become.

`schema` has the tables, `seals` the hashes that tell a flipped bit from what was written, `connections` the transactions.
`chunks`, `leaves`, `manifests`, `objects`, `vanished`, `housekeeping` and `figures` have the statements; `checking`, `mending`
and `healing` find damage and put it right; `adapter` and `upkeep` put all of it behind the port `Index`.
"""

from __future__ import annotations

from tusd_py_cas.sqlite_index.adapter import SqliteIndex

__all__ = ["SqliteIndex"]
