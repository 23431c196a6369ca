"""The tables of ``portal.db``. All of it can be made anew from the files, but for UIDs, modseqs and keywords."""

from __future__ import annotations

from hornetmail.db.migrate import Migration

MIGRATIONS = (
    Migration(
        1,
        "first form",
        (
            "CREATE TABLE portal_facts (tenant INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (tenant, name))",
            "CREATE TABLE portal_boxes (mailbox INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, uidvalidity INTEGER NOT NULL)",
            "CREATE TABLE portal_folders (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant INTEGER NOT NULL, mailbox INTEGER NOT NULL,"
            " name TEXT NOT NULL, special TEXT NOT NULL, uidvalidity INTEGER NOT NULL, uidnext INTEGER NOT NULL,"
            " modseq INTEGER NOT NULL, UNIQUE (mailbox, name))",
            "CREATE TABLE portal_messages (tenant INTEGER NOT NULL, folder INTEGER NOT NULL, uid INTEGER NOT NULL,"
            " modseq INTEGER NOT NULL, base TEXT NOT NULL, flags TEXT NOT NULL, size INTEGER NOT NULL, date REAL NOT NULL,"
            " bare INTEGER NOT NULL, claimed INTEGER NOT NULL DEFAULT 0, note TEXT NOT NULL DEFAULT '',"
            " PRIMARY KEY (folder, uid))",
            "CREATE TABLE portal_trees (tenant INTEGER NOT NULL, folder INTEGER NOT NULL, uid INTEGER NOT NULL,"
            " tree BLOB NOT NULL, PRIMARY KEY (folder, uid))",
            "CREATE TABLE portal_gone (tenant INTEGER NOT NULL, folder INTEGER NOT NULL, uid INTEGER NOT NULL,"
            " modseq INTEGER NOT NULL, base TEXT NOT NULL, PRIMARY KEY (folder, uid))",
            "CREATE TABLE portal_received (entry INTEGER NOT NULL, mailbox INTEGER NOT NULL, tenant INTEGER NOT NULL,"
            " base TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (entry, mailbox))",
            "CREATE INDEX portal_received_at ON portal_received (at)",
            "CREATE INDEX portal_claimed ON portal_messages (claimed) WHERE claimed = 1",
        ),
    ),
    Migration(2, "structures anew: the summary of a message in a message stands on the inner one", ("DELETE FROM portal_trees",)),
    Migration(
        3, "since when a message is in the portal", ("ALTER TABLE portal_messages ADD COLUMN landed REAL NOT NULL DEFAULT 0",)
    ),
    Migration(
        4,
        "headers, and since when a message is in its folder",
        (
            "CREATE TABLE portal_heads (tenant INTEGER NOT NULL, folder INTEGER NOT NULL, uid INTEGER NOT NULL, head BLOB NOT NULL,"
            " PRIMARY KEY (folder, uid))",
            "ALTER TABLE portal_messages ADD COLUMN saved REAL NOT NULL DEFAULT 0",
            "CREATE INDEX portal_gone_modseq ON portal_gone (folder, modseq)",
        ),
    ),
    Migration(
        5,
        "what nobody was told of yet; structures anew: with References",
        (
            "ALTER TABLE portal_folders ADD COLUMN recent INTEGER NOT NULL DEFAULT 0",
            "UPDATE portal_folders SET recent = uidnext",
            "DELETE FROM portal_trees",
        ),
    ),
    Migration(
        6,
        "what clients ask of every message, in the form in which it goes over the wire",
        (
            "CREATE TABLE portal_summaries (tenant INTEGER NOT NULL, folder INTEGER NOT NULL, uid INTEGER NOT NULL,"
            " envelope BLOB NOT NULL, structure BLOB NOT NULL, PRIMARY KEY (folder, uid)) WITHOUT ROWID",
            "CREATE TABLE portal_fields (tenant INTEGER NOT NULL, folder INTEGER NOT NULL, uid INTEGER NOT NULL,"
            " bits INTEGER NOT NULL, fields BLOB NOT NULL, PRIMARY KEY (folder, uid)) WITHOUT ROWID",
        ),
    ),
    Migration(
        7,
        "texts of messages as searches compare them",
        (
            "CREATE TABLE portal_texts (tenant INTEGER NOT NULL, folder INTEGER NOT NULL, uid INTEGER NOT NULL,"
            " headers BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (folder, uid))",
        ),
    ),
    Migration(
        8,
        "who was given rights on whose folders",
        (
            "CREATE TABLE portal_grants (tenant INTEGER NOT NULL, folder INTEGER NOT NULL, whom TEXT NOT NULL, rights TEXT NOT NULL,"
            " PRIMARY KEY (folder, whom))",
            "CREATE INDEX portal_grants_whom ON portal_grants (tenant, whom)",
        ),
    ),
)
