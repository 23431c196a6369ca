"""``control.db``: the only database that is a source itself (design: files are the truth, databases are their index).

It holds the directory, credentials, web sessions, settings, alarms and the audit log, is keyed with SQLCipher under the server key, and is backed
up (rule 26). Every table carries the tenant (rule 25). Structs are kept as JSON in ``value`` where nothing ever asks for a single field, so
that a new field needs no migration; what must be unique has a column and a constraint of its own. A request is open while no row of
``request_ends`` has its number: rows are only added, and none can end twice.
"""

from __future__ import annotations

from typing import Any

from hornetmail.db.migrate import Migration

Statement = tuple[str, tuple[Any, ...]]
"""What a change writes: SQL and its parameters."""

CONTROL = (
    Migration(
        number=1,
        name="directory, sessions, audit",
        sql=(
            "CREATE TABLE tenants (tenant INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
            "INSERT INTO tenants (tenant, name) VALUES (1, 'first')",
            "CREATE TABLE domains (name TEXT NOT NULL PRIMARY KEY, tenant INTEGER NOT NULL REFERENCES tenants (tenant), value TEXT NOT NULL)",
            "CREATE TABLE domain_names (name TEXT NOT NULL PRIMARY KEY, tenant INTEGER NOT NULL,"
            " domain TEXT NOT NULL REFERENCES domains (name) ON DELETE CASCADE)",
            "CREATE TABLE mailboxes (id INTEGER NOT NULL PRIMARY KEY, tenant INTEGER NOT NULL REFERENCES tenants (tenant),"
            " domain TEXT NOT NULL, value TEXT NOT NULL)",
            "CREATE INDEX mailboxes_domain ON mailboxes (domain)",
            "CREATE TABLE addresses (key TEXT NOT NULL PRIMARY KEY, tenant INTEGER NOT NULL,"
            " mailbox INTEGER NOT NULL REFERENCES mailboxes (id) ON DELETE CASCADE)",
            "CREATE INDEX addresses_mailbox ON addresses (mailbox)",
            "CREATE TABLE credentials (mailbox INTEGER NOT NULL PRIMARY KEY REFERENCES mailboxes (id) ON DELETE CASCADE,"
            " tenant INTEGER NOT NULL, hash TEXT NOT NULL, must_change INTEGER NOT NULL, changed REAL NOT NULL)",
            "CREATE TABLE settings (tenant INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (tenant, name))",
            "CREATE TABLE directory_version (tenant INTEGER NOT NULL PRIMARY KEY, version INTEGER NOT NULL)",
            "INSERT INTO directory_version (tenant, version) VALUES (0, 1)",
            "CREATE TABLE sessions (id TEXT NOT NULL PRIMARY KEY, tenant INTEGER NOT NULL, token_hash BLOB NOT NULL UNIQUE,"
            " mailbox INTEGER NOT NULL, created REAL NOT NULL, seen REAL NOT NULL, expires REAL NOT NULL, peer TEXT NOT NULL, agent TEXT NOT NULL)",
            "CREATE INDEX sessions_mailbox ON sessions (mailbox)",
            "CREATE TABLE audit (number INTEGER NOT NULL PRIMARY KEY, tenant INTEGER NOT NULL, at REAL NOT NULL, refers INTEGER NOT NULL,"
            " actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL, detail TEXT NOT NULL, result TEXT NOT NULL,"
            " previous BLOB NOT NULL, hash BLOB NOT NULL)",
            "CREATE INDEX audit_refers ON audit (refers)",
        ),
    ),
    Migration(
        number=2,
        name="requests",
        sql=(
            "CREATE TABLE requests (number INTEGER NOT NULL PRIMARY KEY, tenant INTEGER NOT NULL REFERENCES tenants (tenant), value TEXT NOT NULL)",
            "CREATE TABLE request_ends (number INTEGER NOT NULL PRIMARY KEY REFERENCES requests (number), tenant INTEGER NOT NULL,"
            " value TEXT NOT NULL)",
        ),
    ),
    Migration(
        number=3,
        name="alarms",
        sql=(
            "CREATE TABLE alarms (number INTEGER NOT NULL PRIMARY KEY, tenant INTEGER NOT NULL, code TEXT NOT NULL, subject TEXT NOT NULL,"
            " ended REAL NOT NULL, value TEXT NOT NULL)",
            "CREATE UNIQUE INDEX alarms_open ON alarms (code, subject) WHERE ended = 0",
            "CREATE INDEX alarms_ended ON alarms (ended)",
        ),
    ),
    Migration(
        number=4,
        name="media",
        sql=(
            "CREATE TABLE media (number INTEGER NOT NULL PRIMARY KEY, tenant INTEGER NOT NULL, value TEXT NOT NULL, secret BLOB NOT NULL)",
        ),
    ),
    Migration(number=5, name="SCRAM keys", sql=("ALTER TABLE credentials ADD COLUMN scram TEXT NOT NULL DEFAULT ''",)),
    Migration(
        number=6,
        name="queue marks",
        sql=("CREATE TABLE queue_marks (node INTEGER NOT NULL PRIMARY KEY, tenant INTEGER NOT NULL, value TEXT NOT NULL)",),
    ),
    Migration(
        number=7,
        name="home by IMAP",
        sql=(
            "CREATE TABLE home_servers (domain TEXT NOT NULL PRIMARY KEY REFERENCES domains (name) ON DELETE CASCADE, tenant INTEGER NOT NULL,"
            " value TEXT NOT NULL, secret BLOB NOT NULL)",
            "CREATE TABLE home_logins (mailbox INTEGER NOT NULL PRIMARY KEY REFERENCES mailboxes (id) ON DELETE CASCADE, tenant INTEGER NOT NULL,"
            " login TEXT NOT NULL, secret BLOB NOT NULL)",
            "CREATE TABLE filed (mailbox INTEGER NOT NULL REFERENCES mailboxes (id) ON DELETE CASCADE, name TEXT NOT NULL, tenant INTEGER NOT NULL,"
            " standing TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (mailbox, name))",
        ),
    ),
    Migration(
        number=8,
        name="portal marks",
        sql=("CREATE TABLE portal_marks (node INTEGER NOT NULL PRIMARY KEY, tenant INTEGER NOT NULL, value TEXT NOT NULL)",),
    ),
)
"""All deltas of ``control.db``, in order; directory, access, audit and alarms share the one sequence."""
