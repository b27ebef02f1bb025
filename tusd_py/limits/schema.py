"""The account's tables, and every statement that is run on them.

`uploads` has a row for each upload. What is asked for at each creation is not added up over all of them: triggers keep
`owners.stored` and `totals.awaited` equal to the sums, whatever changes a row. `rates` has a row for each client that has used
some of its rate.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database, Migrations

__all__ = ["migrate"]

_migrations = Migrations("tusd_py.limits")

_STORED = "COALESCE({row}.length, {row}.offset)"
_AWAITED = "(CASE WHEN {row}.finished OR {row}.length IS NULL THEN 0 ELSE MAX({row}.length - {row}.offset, 0) END)"

_ADD = f"""
    INSERT INTO owners (owner, stored) VALUES (NEW.owner, {_STORED.format(row="NEW")})
        ON CONFLICT (owner) DO UPDATE SET stored = stored + excluded.stored;
    UPDATE totals SET awaited = awaited + {_AWAITED.format(row="NEW")};
"""
_SUBTRACT = f"""
    UPDATE owners SET stored = stored - {_STORED.format(row="OLD")} WHERE owner = OLD.owner;
    DELETE FROM owners WHERE owner = OLD.owner AND stored = 0;
    UPDATE totals SET awaited = awaited - {_AWAITED.format(row="OLD")};
"""


@_migrations(name="0001 account")
def _make_account(db: Database) -> None:
    uploads = db.table("uploads")
    uploads.create(
        {
            "id": str,
            "owner": str,
            "length": int,
            "offset": int,
            "created_at": float,
            "active_at": float,
            "finished": int,
            "final": int,
            "touched_at": float,  # when whoever serves it has told of it; what a recovery has read before is older
            "seen_at": float,  # the recovery that has found its record
        },
        pk="id",
        not_null={"id", "owner", "offset", "created_at", "active_at", "finished", "final", "touched_at", "seen_at"},
    )
    db.execute("CREATE INDEX uploads_running ON uploads (active_at, owner) WHERE NOT finished AND NOT final")
    db.table("owners").create({"owner": str, "stored": int}, pk="owner", not_null={"owner", "stored"})
    db.table("totals").create({"awaited": int}, not_null={"awaited"})
    db.execute("INSERT INTO totals (awaited) VALUES (0)")
    db.table("rates").create({"client": str, "arrival": float}, pk="client", not_null={"client", "arrival"})
    db.table("rates").create_index(["arrival"])
    db.execute(f"CREATE TRIGGER uploads_added AFTER INSERT ON uploads BEGIN {_ADD} END")
    db.execute(f"CREATE TRIGGER uploads_gone AFTER DELETE ON uploads BEGIN {_SUBTRACT} END")
    db.execute(f"CREATE TRIGGER uploads_changed AFTER UPDATE ON uploads BEGIN {_SUBTRACT} {_ADD} END")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables up to date, inside the caller's transaction: of several processes one does it."""
    _migrations.apply(Database(connection, execute_plugins=False))
