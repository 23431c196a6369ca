"""``people import`` against the API over a real UNIX socket."""

from __future__ import annotations

from pathlib import Path

from hornetmail.core.events import DirectoryChanged
from tests.cli.test_cli import CliCase

LIST = """\
address,name,aliases,password,picked,archive
ann@example.test,"Ann, the first",office@example.test info@example.test,correct horse,no,yes
bad address,,,,,
ann.b@example.test,,office@example.test,,,
carl@elsewhere.test,,,,,
dora@example.test,,,p\tw,,
emil@example.test,,,,perhaps,
ALICE@example.test,Another name,,,,
frida@example.test,Frida,,,,no
hilde@example.test,Hil\u202ede,,,,
ida@example.test,I\x07da,,,,
gert@example.test
EMIL@example.test,,,,,
frida@example.test,,,,,
"""

REFUSED = [3, 4, 5, 6, 7, 10, 11, 12, 14]


class TestPeople(CliCase):
    """A file as people make them."""

    def write(self, text: str, encoding: str = "utf-8") -> Path:
        path = self.directory / "people.csv"
        path.write_bytes(text.encode(encoding))
        return path

    async def test_those_who_can_are_registered_and_the_others_named(self) -> None:
        """Catches one bad line that keeps the others out, is not named by its line, or is left out silently; and a second run that does harm."""
        control = (await self.open()).control
        path = self.write(LIST)
        version, alice = control.directory.version, control.directory.mailbox("alice@example.test")
        dry = await self.cli("people", "import", str(path), "--dry-run", "--json")
        assert (dry.code, control.directory.version) == (1, version)
        done = await self.cli("people", "import", str(path), "--json")
        assert (done.code, done.err) == (1, "hornetmail: 9 of people.csv were refused\n")
        assert done.json == dry.json
        assert [one["line"] for one in done.json["problems"]] == REFUSED
        texts = " | ".join(one["text"] for one in done.json["problems"])
        for word in (
            "no @",
            '"office@example.test" is in line 2',
            "not served here",
            "a control character",
            "perhaps",
            "5 columns too few",
            "U+202E, which turns the direction of writing",
            "control character (U+0007)",
        ):
            assert word in texts, word
        assert '"frida@example.test" is in line 9 already' in texts
        assert (done.json["registered"], done.json["present"]) == (3, 1)
        directory = control.directory
        ann, frida = directory.mailbox("info@example.test"), directory.mailbox("frida@example.test")
        assert ann is not None
        assert (ann.name, ann.picked, ann.archive) == ("Ann, the first", False, True)
        assert frida is not None
        assert (frida.name, frida.archive, directory.credential(frida.id)) == ("Frida", False, None)
        assert directory.mailbox("alice@example.test") == alice
        assert directory.mailbox("emil@example.test") is not None
        person = await control.access.login("ann@example.test", "correct horse", "imap", "")
        assert person.mailbox == ann.id
        version = directory.version
        again = await self.cli("people", "import", str(path))
        assert (again.code, control.directory.version) == (1, version)
        assert "people.csv:3: " in again.err
        assert again.out == "0 registered, 4 there already, 9 refused\n"

    async def test_a_transaction_and_an_entry_a_batch(self) -> None:
        """Of 1,100: catches one transaction and one bus event a person (100,000 of them take half an hour), and passwords in the audit log."""
        control = (await self.open()).control
        lines = [f"p{number}@example.test;p {number}" for number in range(1100)]
        path = self.write("address;name\n" + "\n".join(lines) + "\n", "utf-8-sig")
        before = control.directory.version
        done = await self.cli("people", "import", str(path))
        assert (done.code, done.out) == (0, "1100 registered, 0 there already, 0 refused\n"), done.err
        assert control.directory.version - before == 3
        assert len(control.directory.mailboxes("example.test")) == 1102
        told = [event for event in control.bus.published if isinstance(event, DirectoryChanged)][-3:]
        assert all((event.domains, event.people) == (frozenset(), {"example.test"}) for event in told)
        entries = await control.audit.entries(limit=3)
        assert [entry.subject for entry in entries] == [
            "people.csv, lines 1002 to 1101",
            "people.csv, lines 502 to 1001",
            "people.csv, lines 2 to 501",
        ]
        assert entries[0].result == "done: 100 registered, 0 there already, 0 refused"
        self.write("address,password\nzoe@example.test,a very long secret\n")
        assert (await self.cli("people", "import", str(path))).code == 0
        assert "secret" not in repr(await control.audit.entries(limit=10))

    async def test_files_that_cannot_be_read(self) -> None:
        """One line that says where, and nobody is registered."""
        control = (await self.open()).control
        version = control.directory.version
        for text, encoding, words in (
            ("address,telephone\na@example.test,1\n", "utf-8", 'people.csv:1: "telephone" is no column'),
            ("name\nAnn\n", "utf-8", "people.csv:1: no column address"),
            ("", "utf-8", "people.csv:1: "),
            ("address,name\na@example.test,Bär\nb@example.test,Bär\n", "latin-1", "people.csv:2: not UTF-8"),
            (
                'address,name\na@example.test,"open\n',
                "utf-8",
                "people.csv:2: a quotation mark is opened here and not closed; nobody",
            ),
            ('address,name\na@example.test,A\nb@example.test,"B\nc@example.test,"C"\n', "utf-8", "people.csv:3: "),
            (
                'address,name\na@example.test,A\nb@example.test,"B\nc@example.test,C\nd@example.test,D"\n',
                "utf-8",
                "people.csv:3: a quotation mark is opened here and closed in line 5; nobody",
            ),
        ):
            path = self.write(text, encoding)
            assert words in await self.refused("people", "import", str(path)), words
        await self.refused("people", "import", str(self.directory / "absent.csv"), code=2)
        assert control.directory.version == version
