"""The SQL of the outbox, each statement with its purpose. `transactions` puts them together."""

from __future__ import annotations

__all__ = [
    "ADD",
    "ADVANCE",
    "BACKLOG",
    "CLAIMERS",
    "CLAIM_AT_HOME",
    "CLAIM_OPEN",
    "DELETE_SETTLED",
    "DELIVERED",
    "DELIVERED_AND_FORGOTTEN",
    "DROP_INTENT",
    "DROP_INTENT_FOR",
    "FAILED",
    "GIVEN_UP",
    "HAPPENED",
    "INTENTS",
    "INTENTS_BEFORE",
    "LEAVE_HOME",
    "NEXT_AT_HOME",
    "NEXT_OPEN",
    "PREPARE",
    "RELEASE",
    "RELEASE_ALL",
    "SUPERSEDE",
    "UNDELIVERED",
    "UNREADABLE",
]

# Preparing

PREPARE = """
INSERT OR REPLACE INTO intents (upload, type, consumer, id, payload, created_at)
VALUES (:upload, :type, :consumer, :id, :payload, :now)
"""
"""Prepare an event, in the place of one that is prepared already; as the youngest, whose age counts from now."""

INTENTS = "SELECT consumer, id, payload, created_at FROM intents WHERE upload = :upload AND type = :type"
"""What is prepared of an event, by consumer."""

DROP_INTENT = "DELETE FROM intents WHERE upload = :upload AND type = :type"
"""It has been decided upon, whichever way."""

DROP_INTENT_FOR = "DELETE FROM intents WHERE upload = :upload AND type = :type AND consumer = :consumer"
"""It has been decided upon for one consumer."""

INTENTS_BEFORE = """
SELECT number, consumer, id, payload, created_at FROM intents
WHERE created_at < :before AND (created_at, number) > (:after_time, :after_number)
ORDER BY created_at, number LIMIT :page
"""
"""A page of what is prepared, the oldest first."""

# Confirming

HAPPENED = "SELECT 1 FROM events WHERE upload = :upload AND consumer = :consumer AND type = :type LIMIT 1"
"""Whether an event of this kind is confirmed already."""

SUPERSEDE = """
UPDATE events SET id = :id, payload = :payload, created_at = :now, home = :home, open_at = max(due_at, :now) + :affinity
WHERE seq = (SELECT max(seq) FROM events WHERE upload = :upload AND consumer = :consumer AND type = :type AND state = 'due'
             AND claimer IS NULL)
"""
"""Put newer progress in the place of what nobody has heard of. When it is to be tried, and how often it was, stays."""

ADD = """
INSERT OR IGNORE INTO events
    (id, consumer, upload, type, state, ready, payload, created_at, confirmed_at, due_at, open_at, attempts, home)
VALUES (:id, :consumer, :upload, :type, 'due',
    NOT EXISTS (SELECT 1 FROM events WHERE upload = :upload AND consumer = :consumer AND state = 'due'),
    :payload, :created_at, :now, :now, :now + :affinity, 0, :home)
"""
"""It has come true: due now, behind the others of its upload. One that is confirmed twice is there once."""

# Claiming. Two ways, each along an index: `ready` has none among it that would have to be passed over.

_CLAIM = """
UPDATE events SET ready = 0, claimer = :claimer WHERE seq IN
    (SELECT seq FROM events WHERE ready = 1 AND consumer = :consumer AND {condition} LIMIT :count)
RETURNING seq, id, consumer, payload, created_at, due_at, attempts, error
"""

CLAIM_AT_HOME = _CLAIM.format(condition="home = :claimer AND due_at <= :now ORDER BY due_at, seq")
"""Take what this process has confirmed."""

CLAIM_OPEN = _CLAIM.format(condition="open_at <= :now ORDER BY open_at, seq")
"""Take what whoever confirmed it has left for long enough."""

NEXT_AT_HOME = "SELECT min(due_at) FROM events WHERE ready = 1 AND consumer = :consumer AND home = :claimer"
"""When this process can next claim something that it has confirmed."""

NEXT_OPEN = "SELECT min(open_at) FROM events WHERE ready = 1 AND consumer = :consumer"
"""When it can next claim anything at all."""

UNDELIVERED = """
SELECT (SELECT count(*) FROM events WHERE upload = :upload AND consumer <> :besides AND state IN ('due', 'dead'))
     + (SELECT count(*) FROM intents WHERE upload = :upload AND consumer <> :besides AND type <> 'post-terminate')
"""
"""What others than one consumer have still to get of an upload."""

# Settling. A claim that is no longer ours (the event was dropped) is not settled.

DELIVERED = """
UPDATE events SET state = 'delivered', settled_at = :now, attempts = :attempts, error = NULL, claimer = NULL
WHERE id = :id AND consumer = :consumer AND claimer = :claimer
"""
"""The consumer has it; kept for a while, to be replayed."""

DELIVERED_AND_FORGOTTEN = "DELETE FROM events WHERE id = :id AND consumer = :consumer AND claimer = :claimer"
"""The consumer has it, and nobody will want it again."""

FAILED = """
UPDATE events
SET attempts = :attempts, error = :error, due_at = :due_at, open_at = :due_at + :affinity, claimer = NULL, ready = 1
WHERE id = :id AND consumer = :consumer AND claimer = :claimer
"""
"""It is to be tried again; still ahead of the others of its upload."""

GIVEN_UP = """
UPDATE events SET state = 'dead', settled_at = :now, attempts = :attempts, error = :error, claimer = NULL
WHERE id = :id AND consumer = :consumer AND claimer = :claimer
"""
"""It is tried no more; those behind it are in its way no longer."""

UNREADABLE = """
UPDATE events SET state = 'dead', settled_at = :now, error = :error, claimer = NULL WHERE seq = :seq
"""
"""It can't be told to anybody: damaged, or written by a later version."""

ADVANCE = """
UPDATE events SET ready = 1 WHERE claimer IS NULL AND seq =
    (SELECT min(seq) FROM events WHERE upload = :upload AND consumer = :consumer AND state = 'due')
"""
"""Whoever is first in an upload's queue now may be claimed."""

RELEASE = "UPDATE events SET ready = 1, claimer = NULL WHERE seq = :seq AND claimer = :claimer"
"""Give a claim back, as if it had not been."""

RELEASE_ALL = "UPDATE events SET ready = 1, claimer = NULL WHERE claimer = :claimer"
"""Take back all claims of a process that is gone or going."""

LEAVE_HOME = "UPDATE events SET open_at = due_at WHERE state = 'due' AND home = :claimer AND open_at > :now AND due_at <= :now"
"""What a process that is gone had for itself is anybody's."""

CLAIMERS = "SELECT DISTINCT claimer FROM events WHERE claimer IS NOT NULL"
"""The processes that have claimed something."""

# Keeping house

DELETE_SETTLED = """
DELETE FROM events WHERE seq IN
    (SELECT seq FROM events WHERE state = :state AND settled_at IS NOT NULL AND settled_at <= :before LIMIT :page)
"""
"""Drop some of what is old enough."""

BACKLOG = """
SELECT count(*), (SELECT confirmed_at FROM events WHERE state = 'due' AND consumer = :consumer ORDER BY seq LIMIT 1)
FROM events WHERE state = 'due' AND consumer = :consumer
"""
"""How many events a consumer has still to get, and when the first of them came true."""
