"""``archive.db``: what the packs hold, made quick to ask. Derived from packs and journal, rebuilt from them (L3), encrypted whole (A2, L11).

``mail.place`` orders mail by time of receipt and is the rowid of its full text, which lies in one FTS5 table a month of expiry (rule 23) with the
columns of ``FORMS``. ``rights`` holds one token for each address with a right to the mail, so that a search
within somebody's rights is one index intersection; ``hidden`` holds the recipients that only sender and auditors may know of (rule 14).
"""

from __future__ import annotations

from hornetmail.archive.index.schema.facts import UNKNOWN_LEAVES, UNKNOWN_USES, UNNUMBERED
from hornetmail.archive.index.schema.places import month_of
from hornetmail.db.migrate import Migration

BITS = 62
"""UIDs of a row of ``folder_uids``."""

FOLDER_OF = "tenant = {row}.tenant AND direction = {row}.direction AND month = " + month_of("{row}.place")

SET_BIT = (
    "INSERT INTO folder_uids (tenant, month, direction, node, block, bits) VALUES ({row}.tenant, "
    + month_of("{row}.place")
    + f", {{row}}.direction, {{row}}.node, {{row}}.leaf / {BITS}, 1 << ({{row}}.leaf % {BITS})) ON CONFLICT DO UPDATE SET bits = bits | excluded.bits"
)
CLEAR_BIT = (
    f"UPDATE folder_uids SET bits = bits & ~(1 << ({{row}}.leaf % {BITS})) WHERE "
    + FOLDER_OF
    + f" AND node = {{row}}.node AND block = {{row}}.leaf / {BITS}"
)

MIGRATIONS = (
    Migration(
        1,
        "mail, arrivals, packs",
        (
            """CREATE TABLE mail (
                place INTEGER PRIMARY KEY,
                id INTEGER NOT NULL UNIQUE,
                tenant INTEGER NOT NULL,
                record BLOB NOT NULL UNIQUE,
                sha256 BLOB NOT NULL,
                received REAL NOT NULL,
                date REAL NOT NULL,
                direction TEXT NOT NULL,
                feed TEXT NOT NULL,
                login TEXT NOT NULL,
                subject TEXT NOT NULL,
                message_id TEXT NOT NULL,
                size INTEGER NOT NULL,
                attachments INTEGER NOT NULL,
                spam INTEGER NOT NULL,
                people BLOB NOT NULL,
                expires REAL NOT NULL,
                month INTEGER NOT NULL,
                marked REAL,
                node INTEGER NOT NULL,
                leaf INTEGER NOT NULL,
                content BLOB,
                rendition INTEGER,
                pack INTEGER,
                start INTEGER NOT NULL,
                length INTEGER NOT NULL
            )""",
            "CREATE UNIQUE INDEX mail_bytes ON mail (tenant, sha256)",
            "CREATE INDEX mail_expiry ON mail (expires)",
            "CREATE INDEX mail_month ON mail (month)",
            "CREATE INDEX mail_pack ON mail (pack)",
            "CREATE INDEX mail_size ON mail (size)",
            """CREATE TABLE arrival (
                record BLOB PRIMARY KEY,
                tenant INTEGER NOT NULL,
                row INTEGER NOT NULL,
                place INTEGER NOT NULL,
                outcome TEXT NOT NULL
            ) WITHOUT ROWID""",
            "CREATE UNIQUE INDEX arrival_row ON arrival (row) WHERE row != 0 AND outcome != 'repeat'",
            "CREATE INDEX arrival_place ON arrival (place)",
            """CREATE TABLE part (
                record BLOB PRIMARY KEY,
                tenant INTEGER NOT NULL,
                month INTEGER NOT NULL,
                digest BLOB NOT NULL,
                pack INTEGER,
                start INTEGER NOT NULL,
                length INTEGER NOT NULL
            ) WITHOUT ROWID""",
            "CREATE INDEX part_digest ON part (tenant, month, digest)",
            "CREATE INDEX part_pack ON part (pack)",
            """CREATE TABLE pack (
                number INTEGER PRIMARY KEY,
                tenant INTEGER NOT NULL,
                pack BLOB NOT NULL UNIQUE,
                medium INTEGER NOT NULL,
                month INTEGER NOT NULL,
                size INTEGER NOT NULL,
                sha256 BLOB NOT NULL,
                members INTEGER NOT NULL,
                shared INTEGER NOT NULL,
                made REAL NOT NULL,
                checked REAL NOT NULL
            )""",
            "CREATE TABLE month (month INTEGER PRIMARY KEY, tenant INTEGER NOT NULL DEFAULT 0)",
            "CREATE TABLE deleted (record BLOB PRIMARY KEY, tenant INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
            "CREATE TABLE fact (name TEXT PRIMARY KEY, tenant INTEGER NOT NULL DEFAULT 0, value TEXT NOT NULL) WITHOUT ROWID",
        ),
    ),
    Migration(
        2,
        "marked mails, found without looking at all others",
        ("CREATE INDEX mail_marked ON mail (place) WHERE marked IS NOT NULL",),
    ),
    Migration(
        3,
        "every leaf has an owner: arrivals know theirs, and what went is remembered",
        (
            "ALTER TABLE arrival ADD COLUMN node INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE arrival ADD COLUMN leaf INTEGER NOT NULL DEFAULT -1",
            f"INSERT INTO fact (name, value) SELECT '{UNKNOWN_LEAVES}', 'yes' WHERE EXISTS (SELECT 1 FROM mail)",
            "ALTER TABLE deleted ADD COLUMN back REAL NOT NULL DEFAULT 0",
            # what left the index and is not in the journal yet, and the leaves of all that went, as ranges
            "CREATE TABLE going (record BLOB PRIMARY KEY, tenant INTEGER NOT NULL, leaves BLOB NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID",
            """CREATE TABLE leaf_gone (
                node INTEGER NOT NULL,
                first INTEGER NOT NULL,
                last INTEGER NOT NULL,
                tenant INTEGER NOT NULL DEFAULT 0,
                PRIMARY KEY (node, first)
            ) WITHOUT ROWID""",
        ),
    ),
    Migration(
        4,
        "leaves of the audit log",
        (
            """CREATE TABLE audit_leaf (
                node INTEGER NOT NULL,
                leaf INTEGER NOT NULL,
                tenant INTEGER NOT NULL DEFAULT 0,
                number INTEGER NOT NULL,
                digest BLOB NOT NULL,
                at REAL NOT NULL,
                PRIMARY KEY (node, leaf)
            ) WITHOUT ROWID""",
        ),
    ),
    Migration(
        5,
        "packs are merged, parts know who uses them, retention has rules, holds",
        (
            # dead: records in it that went; soon: written anew without them at the next merging; merged: what lives of it lies in another pack
            "ALTER TABLE pack ADD COLUMN dead INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE pack ADD COLUMN soon INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE pack ADD COLUMN merged INTEGER NOT NULL DEFAULT 0",
            # packs that are being written: their sources are the numbers of the packs that go into them
            """CREATE TABLE merging (
                pack BLOB PRIMARY KEY,
                tenant INTEGER NOT NULL,
                medium INTEGER NOT NULL,
                month INTEGER NOT NULL,
                sources BLOB NOT NULL
            ) WITHOUT ROWID""",
            # idle: no mail uses it any more, so that none may begin to
            "ALTER TABLE part ADD COLUMN idle INTEGER NOT NULL DEFAULT 0",
            "CREATE INDEX part_idle ON part (record) WHERE idle = 1",
            """CREATE TABLE part_use (
                part BLOB NOT NULL,
                place INTEGER NOT NULL,
                tenant INTEGER NOT NULL,
                PRIMARY KEY (part, place)
            ) WITHOUT ROWID""",
            "CREATE INDEX part_use_place ON part_use (place)",
            f"INSERT INTO fact (name, value) SELECT '{UNKNOWN_USES}', 'yes' WHERE EXISTS (SELECT 1 FROM part)",
            # base: when it would go by its record, if a rule of retention says otherwise; kept: not before that, by a later fact
            "ALTER TABLE mail ADD COLUMN base REAL",
            "ALTER TABLE mail ADD COLUMN kept REAL NOT NULL DEFAULT 0",
            "CREATE TABLE rules (tenant INTEGER PRIMARY KEY, at REAL NOT NULL, by TEXT NOT NULL, rules BLOB NOT NULL, walked INTEGER)",
            """CREATE TABLE hold (
                tenant INTEGER NOT NULL,
                name TEXT NOT NULL,
                at REAL NOT NULL,
                by TEXT NOT NULL,
                query TEXT NOT NULL,
                content INTEGER NOT NULL,
                reason TEXT NOT NULL,
                released REAL NOT NULL DEFAULT 0,
                PRIMARY KEY (tenant, name)
            ) WITHOUT ROWID""",
            """CREATE TABLE held (
                record BLOB NOT NULL,
                name TEXT NOT NULL,
                tenant INTEGER NOT NULL,
                at REAL NOT NULL,
                released REAL NOT NULL DEFAULT 0,
                PRIMARY KEY (record, tenant, name)
            ) WITHOUT ROWID""",
            "CREATE INDEX held_name ON held (tenant, name)",
            "CREATE INDEX mail_leaf ON mail (node, leaf)",
            "CREATE INDEX arrival_leaf ON arrival (node, leaf)",
        ),
    ),
    Migration(
        6,
        "how much there is without counting it, which month's full text was counted last, when mail last went",
        (
            "CREATE TABLE removal (tenant INTEGER PRIMARY KEY, at REAL NOT NULL)",
            "ALTER TABLE month ADD COLUMN checked REAL NOT NULL DEFAULT 0",
            "CREATE TABLE tally (tenant INTEGER PRIMARY KEY, mails INTEGER NOT NULL, size INTEGER NOT NULL)",
            "INSERT INTO tally (tenant, mails, size) SELECT tenant, count(*), sum(size) FROM mail GROUP BY tenant",
            """CREATE TRIGGER mail_comes AFTER INSERT ON mail BEGIN
                INSERT INTO tally (tenant, mails, size) VALUES (new.tenant, 1, new.size)
                    ON CONFLICT (tenant) DO UPDATE SET mails = mails + 1, size = size + excluded.size;
            END""",
            """CREATE TRIGGER mail_goes AFTER DELETE ON mail BEGIN
                UPDATE tally SET mails = mails - 1, size = size - old.size WHERE tenant = old.tenant;
            END""",
        ),
    ),
    Migration(
        7,
        "the archive in mail programs: what lies in which month, kept by the database itself",
        (
            "CREATE INDEX arrival_copy ON arrival (place) WHERE outcome = 'copy'",
            # top: the highest UID that there ever was; change: of the last change, as a modseq; anew: times that the UIDs had to be begun anew
            """CREATE TABLE folder (
                tenant INTEGER NOT NULL,
                month INTEGER NOT NULL,
                direction TEXT NOT NULL,
                mails INTEGER NOT NULL,
                size INTEGER NOT NULL,
                top INTEGER NOT NULL,
                change INTEGER NOT NULL,
                anew INTEGER NOT NULL DEFAULT 0,
                PRIMARY KEY (tenant, month, direction)
            ) WITHOUT ROWID""",
            f"""INSERT INTO folder (tenant, month, direction, mails, size, top, change)
                SELECT tenant, {month_of("place")}, direction, sum(marked IS NULL), sum(iif(marked IS NULL, size, 0)), max(leaf) + 1,
                    (max(leaf) + 1) << 24 FROM mail GROUP BY 1, 2, 3""",
            # the mails that are there, a bit for each leaf: the UIDs of a million are read in 16,000 rows
            """CREATE TABLE folder_uids (
                tenant INTEGER NOT NULL,
                month INTEGER NOT NULL,
                direction TEXT NOT NULL,
                node INTEGER NOT NULL,
                block INTEGER NOT NULL,
                bits INTEGER NOT NULL,
                PRIMARY KEY (tenant, month, direction, node, block)
            ) WITHOUT ROWID""",
            f"""INSERT INTO folder_uids (tenant, month, direction, node, block, bits)
                SELECT tenant, {month_of("place")}, direction, node, leaf / {BITS}, sum(1 << (leaf % {BITS})) FROM mail WHERE marked IS NULL GROUP BY 1, 2, 3, 4, 5""",
            f"""CREATE TRIGGER folder_gains AFTER INSERT ON mail BEGIN
                {SET_BIT.format(row="new")};
                INSERT INTO folder (tenant, month, direction, mails, size, top, change)
                    VALUES (new.tenant, {month_of("new.place")}, new.direction, 1, new.size, new.leaf + 1, (new.leaf + 1) << 24)
                    ON CONFLICT DO UPDATE SET mails = mails + 1, size = size + excluded.size, anew = anew + (excluded.top <= top),
                        change = max(change + 1, excluded.change), top = max(top, excluded.top);
            END""",
            f"""CREATE TRIGGER folder_gains_people AFTER INSERT ON arrival WHEN new.outcome = 'copy' BEGIN
                UPDATE folder SET anew = anew + (new.leaf + 1 <= top), change = max(change + 1, (new.leaf + 1) << 24), top = max(top, new.leaf + 1)
                    FROM (SELECT tenant AS t, direction AS d, {month_of("place")} AS m FROM mail WHERE place = new.place)
                    WHERE tenant = t AND direction = d AND month = m;
            END""",
            f"""CREATE TRIGGER folder_loses AFTER DELETE ON mail WHEN old.marked IS NULL BEGIN
                {CLEAR_BIT.format(row="old")};
                UPDATE folder SET mails = mails - 1, size = size - old.size, change = change + 1 WHERE {FOLDER_OF.format(row="old")};
            END""",
            f"""CREATE TRIGGER folder_hides AFTER UPDATE OF marked ON mail WHEN old.marked IS NULL AND new.marked IS NOT NULL BEGIN
                {CLEAR_BIT.format(row="old")};
                UPDATE folder SET mails = mails - 1, size = size - old.size, change = change + 1 WHERE {FOLDER_OF.format(row="old")};
            END""",
            # what comes back would do so under a UID that was gone already
            f"""CREATE TRIGGER folder_regains AFTER UPDATE OF marked ON mail WHEN old.marked IS NOT NULL AND new.marked IS NULL BEGIN
                {SET_BIT.format(row="new")};
                UPDATE folder SET mails = mails + 1, size = size + old.size, change = change + 1, anew = anew + 1 WHERE {FOLDER_OF.format(row="old")};
            END""",
            # since when a person's folders show what they show, by what the rights are: another right is another numbering
            """CREATE TABLE viewer (
                mailbox INTEGER NOT NULL,
                tree TEXT NOT NULL,
                tenant INTEGER NOT NULL,
                rights BLOB NOT NULL,
                since INTEGER NOT NULL,
                PRIMARY KEY (mailbox, tree)
            ) WITHOUT ROWID""",
            f"INSERT INTO fact (name, value) SELECT '{UNNUMBERED}', 'yes' WHERE EXISTS (SELECT 1 FROM arrival WHERE outcome = 'copy')",
        ),
    ),
    Migration(
        8,
        "full text has forms, a later one with more columns; a mail knows what of it is not searched",
        (
            "ALTER TABLE month ADD COLUMN form INTEGER NOT NULL DEFAULT 1",
            "ALTER TABLE mail ADD COLUMN unsearched TEXT NOT NULL DEFAULT ''",
        ),
    ),
    Migration(
        9,
        "renditions and conversations; the same bytes for ever; months that get their new form",
        (
            # room: there is room for further arrivals of these bytes in this row
            "ALTER TABLE mail ADD COLUMN room INTEGER NOT NULL DEFAULT 1",
            "DROP INDEX mail_bytes",
            "CREATE INDEX mail_bytes ON mail (tenant, sha256, place) WHERE room = 1",
            # content: see core.archive.identity; rendition: the place of the mail that it is a rendition of; namesake: another mail has its Message-ID
            "CREATE INDEX mail_content ON mail (tenant, content) WHERE content IS NOT NULL",
            "CREATE INDEX mail_rendition ON mail (place, rendition) WHERE rendition IS NOT NULL",
            "CREATE INDEX mail_renditions ON mail (rendition, place) WHERE rendition IS NOT NULL",
            "ALTER TABLE mail ADD COLUMN namesake INTEGER NOT NULL DEFAULT 0",
            "CREATE INDEX mail_namesake ON mail (place) WHERE namesake = 1",
            "ALTER TABLE mail ADD COLUMN thread INTEGER",
            "CREATE INDEX mail_thread ON mail (tenant, thread, place) WHERE thread IS NOT NULL",
            # walked: the last place that a month's new full text has; NULL: nobody makes one
            "ALTER TABLE month ADD COLUMN walked INTEGER",
            *(
                f"""CREATE TRIGGER rendition_{name} WHEN (old.rendition IS NOT NULL OR EXISTS (SELECT 1 FROM mail WHERE rendition = old.place)){when} BEGIN
                    UPDATE folder SET anew = anew + 1, change = change + 1 WHERE {FOLDER_OF.format(row="old")};
                END"""
                for name, when in (
                    ("goes AFTER DELETE ON mail", ""),
                    ("hides AFTER UPDATE OF marked ON mail", " AND (old.marked IS NULL) != (new.marked IS NULL)"),
                )
            ),
            # what turns out to be a rendition is listed no more
            f"""CREATE TRIGGER rendition_joins AFTER UPDATE OF rendition ON mail WHEN old.rendition IS NOT new.rendition BEGIN
                UPDATE folder SET change = change + 1 WHERE {FOLDER_OF.format(row="old")};
            END""",
        ),
    ),
    Migration(
        10,
        "files of mail are read behind the mail itself, those of mail from before too",
        (
            "CREATE TABLE unread (place INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, away INTEGER NOT NULL DEFAULT 0)",
            "CREATE INDEX unread_next ON unread (away, place)",
            "INSERT INTO unread (place, tenant) SELECT place, tenant FROM mail WHERE unsearched LIKE '%: this kind of file is not read%'",
            "CREATE TRIGGER unread_goes AFTER DELETE ON mail BEGIN DELETE FROM unread WHERE place = old.place; END",
        ),
    ),
)
