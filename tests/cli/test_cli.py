"""The command line against the API over a real UNIX socket: exit codes, outputs, refusals (the contract)."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hornetmail import config
from hornetmail.archive.keys.paper import backup
from hornetmail.compose.service import build
from hornetmail.core.archive.archived import Finding
from hornetmail.core.archive.retention import RetentionState
from hornetmail.core.served import Domain, Role
from hornetmail.disk.files import Disk
from hornetmail.testing.control import Control
from hornetmail.testing.site import ApiOnControl, queued
from hornetmail.web.api.door.http import HttpFace, site
from hornetmail.web.api.door.local import listen_locally
from hornetmail.web.api.door.visitors import Visitors


class Done:
    """What a command did."""

    def __init__(self, ended: "subprocess.CompletedProcess[bytes]") -> None:
        self.code = ended.returncode
        self.raw = ended.stdout
        self.out = ended.stdout.decode("utf-8", "replace")
        self.err = ended.stderr.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(directory: Path, *arguments: str, stdin: bytes = b"", password: str | None = None) -> Done:
    """The real command as a process."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2]), "LC_ALL": "C"}
    if password is not None:
        environment["HORNETMAIL_PASSWORD"] = password
    command = [sys.executable, "-m", "hornetmail.cli", *arguments]
    return Done(
        subprocess.run(command, input=stdin, capture_output=True, env=environment, cwd=directory, timeout=60, check=False)
    )


class CliCase(TestCase):
    """A service's socket with example.test, alice, and an auditor."""

    depth = 0

    def setUp(self) -> None:
        self.addCleanup(self.flush)

    def flush(self) -> None:
        """Under ``-b``, Twisted's UNIX port compares the bytes of its path with text."""
        assert {warning["message"] for warning in self.flushWarnings()} <= {"Comparison between bytes and string"}

    async def open(self) -> ApiOnControl:
        control = await Control.open(self)
        self.site = ApiOnControl(control)
        await control.directory.add_domain(Domain("example.test"))
        await control.person("alice@example.test")
        await control.person("auditor@example.test", roles=(Role.AUDITOR,))
        self.directory = Path(self.mktemp(), *(["a-rather-long-name-of-a-directory"] * self.depth)).absolute()
        self.directory.mkdir(parents=True, mode=0o700)
        (self.directory / "hornetmail.toml").write_text(config.write_default(self.directory, "mx.example.test", 20000))
        face = HttpFace(self.site.api, Visitors(control.access, control.sessions), door="socket")
        self.socket = self.directory / "hornetmail.sock"
        port = await listen_locally(reactor, Disk(), self.socket, site(face.resource(), reactor))
        self.addCleanup(port.stopListening)
        return self.site

    async def cli(self, *arguments: str, stdin: bytes = b"", password: str | None = None) -> Done:
        done: Done = await deferToThread(run, self.directory, *arguments, stdin=stdin, password=password)
        return done

    async def refused(self, *arguments: str, code: int = 1, stdin: bytes = b"", password: str | None = None) -> str:
        done = await self.cli(*arguments, stdin=stdin, password=password)
        assert (done.code, done.out) == (code, ""), done.err
        if code == 1:
            assert done.err.count("\n") == 1, done.err
            assert done.err.startswith("hornetmail: ")
        return done.err


class TestCommands(CliCase):
    """One scenario a group of commands; each command is a process of its own."""

    async def test_domains(self) -> None:
        """The contract's options must reach the directory, and come back in tables and JSON."""
        rooms = await self.open()
        added = await self.cli(
            "domain",
            "add",
            "new.test",
            "--primary",
            "127.0.0.1:10025",
            "--failover",
            "manual",
            "--portal-on",
            "outage",
            "--scope",
            "picked",
            "--tls",
            "verify",
            "--json",
        )
        assert (added.code, added.json["primaries"], added.json["scope"]) == (0, ["127.0.0.1:10025"], "picked")
        domain = rooms.control.directory.domain("new.test")
        assert domain is not None
        assert (domain.failover, domain.tls, str(domain.primaries[0])) == ("manual", "verify", "127.0.0.1:10025")
        assert domain.portal_on == "outage"
        await self.cli("domain", "change", "new.test", "--portal-on", "any")
        assert (await self.cli("domain", "show", "new.test", "--json")).json["portal_on"] == "any"
        listed = await self.cli("domain", "list")
        assert [line.split()[:3] for line in listed.out.splitlines()] == [
            ["DOMAIN", "MODE", "UP"],
            ["example.test", "normal", "yes"],
            ["new.test", "normal", "yes"],
        ]
        assert (await self.cli("domain", "mode", "new.test", "emergency", "--reason", "drill")).out == "new.test: emergency\n"
        assert rooms.modes.asked == [("new.test", "emergency", "local administrator", "drill")]
        shown = (await self.cli("domain", "show", "new.test", "--json")).json
        assert (shown["mode"], shown["primary"]["up"]) == ("emergency", True)
        assert "mode" in (await self.cli("domain", "show", "new.test")).out
        assert "90 days after an emergency" in (await self.cli("domain", "show", "new.test")).out
        await self.cli("domain", "change", "new.test", "--portal-days", "0")
        assert "portal folders  for good" in (await self.cli("domain", "show", "new.test")).out
        assert "portal folders kept" in await self.refused("domain", "change", "new.test", "--portal-days", "-1")
        await self.cli(
            "domain", "change", "new.test", "--quota-bytes", "5000000", "--quota-messages", "9", "--over-quota", "refuse"
        )
        assert "5000000 bytes, 9 messages, then refuse" in (await self.cli("domain", "show", "new.test")).out
        assert "quota of -1 bytes" in await self.refused("domain", "change", "new.test", "--quota-bytes", "-1")
        await self.cli("domain", "change", "new.test", "--quota-bytes", "0", "--quota-messages", "0")
        assert "refuse" not in (await self.cli("domain", "show", "new.test")).out
        assert 'domain "x y": not a domain' in await self.refused("domain", "add", "x y")
        assert "served already" in await self.refused("domain", "add", "example.test")
        rooms.modes.primary = {"host": "[::1]:25", "up": False, "since": 1.0, "seen": 2.0, "reason": "connect: 451 refused"}
        assert "DOWN since 1970-01-01" in (await self.cli("domain", "show", "new.test")).out
        assert "connect: 451 refused" in (await self.cli("domain", "show", "new.test")).out
        assert '--primary (2.): "mx:0"' in await self.refused("domain", "add", "b.test", "--primary", "mx", "--primary", "mx:0")
        assert '--primary: "mx:0"' in await self.refused("domain", "add", "b.test", "--primary", "mx:0")
        assert "not served here" in await self.refused("domain", "mode", "nowhere.test", "normal")
        await self.refused("domain", "mode", "new.test", "draining", code=2)
        await self.refused("domain", "add", "b.test", "--failover", "never", code=2)
        await self.refused("domain", "add", code=2)

    async def test_mailboxes(self) -> None:
        """Passwords come from standard input or are made; a role as often as wanted."""
        rooms = await self.open()
        login = rooms.control.access.login
        assert (
            await self.cli("mailbox", "add", "carol@example.test", "--password-stdin", stdin="gr\u00fcn s\n".encode())
        ).code == 0
        await login("carol@example.test", "gr\u00fcn s", "imap", "")
        added = await self.cli("mailbox", "add", "dave@example.test", "--role", "admin", "--role", "auditor", "--json")
        person = await login("dave@example.test", added.json["password"], "imap", "")
        assert person.roles == (Role.ADMIN, Role.AUDITOR)
        assert added.json["id"] == str(person.mailbox)
        shown = await self.cli("mailbox", "add", "erin@example.test")
        await login("erin@example.test", shown.out.splitlines()[-1].removeprefix("one-time password: "), "imap", "")
        assert (await self.cli("mailbox", "passwd", "carol@example.test", "--password-stdin", stdin=b"second\n")).code == 0
        await login("carol@example.test", "second", "imap", "")
        reset = await self.cli("mailbox", "passwd", "carol@example.test", "--json")
        await login("carol@example.test", reset.json["password"], "imap", "")
        listed = (await self.cli("mailbox", "list", "example.test", "--json")).json
        assert len(listed["mailboxes"]) == 5
        assert "admin auditor" in (await self.cli("mailbox", "list")).out
        assert "registered already" in await self.refused("mailbox", "add", "alice@example.test")
        assert "no password on standard input" in await self.refused("mailbox", "add", "x@example.test", "--password-stdin")
        assert 'domain "nowhere.test" is not served' in await self.refused("mailbox", "add", "x@nowhere.test")
        await self.refused("mailbox", "add", "x@example.test", "--role", "king", code=2)

    async def test_queue(self) -> None:
        """Look at it and change it; a command that names nothing is a wrong use, but for flush."""
        rooms = await self.open()
        rooms.queue.content = [*queued(1000, "a@example.test", "b@example.test"), *queued(2000, "c@example.test")]
        assert [one["id"] for one in (await self.cli("queue", "list", "--json")).json["messages"]] == ["1000", "2000"]
        assert "451 4.3.0 later" in (await self.cli("queue", "list")).out
        assert "mx.example.test" in (await self.cli("queue", "show", "1000")).out
        assert (await self.cli("queue", "hold", "1000", "--json")).json == {"changed": 2}
        assert (await self.cli("queue", "release", "--all")).out == "2 released\n"
        assert (await self.cli("queue", "flush")).out == "3 will be tried now\n"
        assert (await self.cli("queue", "bounce", "2000", "--reason", "moved")).out == "1 returned\n"
        assert (await self.cli("queue", "delete", "--domain", "example.test")).out == "3 deleted\n"
        assert "not in the queue" in await self.refused("queue", "show", "99")
        await self.refused("queue", "delete", code=2)

    async def test_archive(self) -> None:
        """Without --as an administrator's view and no export; with it that person's mail, byte for byte."""
        rooms = await self.open()
        rooms.archive.add(7, "x@elsewhere.test", "alice@example.test")
        rooms.archive.add(8, "evil\x1b[2J@elsewhere.test", "bob@example.test")
        found = (await self.cli("archive", "search", "from:x", "invoice", "--json")).json
        assert found["total"] == 2
        assert set(found["results"][0]) >= {"id", "date", "from", "to", "subject", "size"}
        said = (await self.cli("archive", "search", "")).out
        assert "\x1b" not in said
        assert said.endswith("2 of 2\n")
        assert "by subject" in (await self.cli("archive", "search", "invoice")).out.partition("2 of 2\n")[2], (
            "texts are not searched"
        )
        alice = {"password": "correct horse"}
        assert (await self.cli("--as", "alice@example.test", "archive", "search", "x", "--json", **alice)).json["total"] == 1
        assert "--as" in await self.refused("archive", "export", "7")
        exported = await self.cli("--as", "alice@example.test", "archive", "export", "7", **alice)
        assert (exported.code, exported.raw) == (0, rooms.archive.mails[7][1])
        await self.cli("--as", "alice@example.test", "archive", "export", "7", "--output", "x.eml", **alice)
        assert (self.directory / "x.eml").read_bytes() == rooms.archive.mails[7][1]
        assert "no mail 8" in await self.refused("--as", "alice@example.test", "archive", "export", "8", **alice)
        assert (
            "x.eml" in (await self.cli("--as", "alice@example.test", "archive", "export", "7", "--output", "x.eml", **alice)).err
        )
        assert "wrong address or password" in await self.refused("--as", "alice@example.test", "status", password="wrong")
        assert (await self.cli("--as", "auditor@example.test", "archive", "export", "8", **alice)).raw == rooms.archive.mails[8][
            1
        ]
        assert "may not" in await self.refused("--as", "alice@example.test", "domain", "list", **alice)
        assert "1 on the way to alice@example.test" in (await self.cli("archive", "redeliver", "7")).out
        assert "1 on the way" in (await self.cli("archive", "redeliver", "7", "--as-attachment")).out
        assert self.site.redelivery.attached == [False, True]
        self.site.redelivery.unfit = {7}
        assert "too long" in await self.refused("archive", "redeliver", "7", "--as-attachment")
        assert (await self.cli("archive", "verify", "--full")).out == "all is well\n"
        rooms.archive.findings = [Finding("pack 7", "a seal is broken"), Finding("pack 8", "gone")]
        verified = await self.cli("archive", "verify")
        assert (verified.code, "pack 8" in verified.out) == (1, True)
        assert verified.err == "hornetmail: the archive is damaged: pack 7: a seal is broken, and 1 more\n"
        assert (await self.cli("archive", "verify", "--json")).json["ok"] is False
        assert "goes through" in (await self.cli("archive", "confirm-purge")).out
        assert rooms.archive.confirmed == 1
        assert "no time stamp authority" in await self.refused("archive", "timestamp")
        assert "cannot import" in await self.refused("archive", "import", "/tmp/x", "--owner", "alice@example.test")
        assert "cannot set up" in await self.refused("archive", "feed", "domain", "journal.test")
        await self.refused("archive", "import", "/tmp/x", code=2)

    async def test_key_backup(self) -> None:
        """The key goes into a new file for the owner alone, never over an older backup (A3-A6)."""
        await self.open()
        assert (await self.cli("archive", "key", "backup", "key.txt", "--password-stdin", stdin=b"long enough\n")).code == 0
        paper = self.directory / "key.txt"
        assert (paper.read_text(), paper.stat().st_mode & 0o777) == ("KEY PAPER of 11 characters\n", 0o600)
        assert "exists already" in await self.refused(
            "archive", "key", "backup", "key.txt", "--password-stdin", stdin=b"long enough\n"
        )
        assert "at least 8" in await self.refused("archive", "key", "backup", "-", "--password-stdin", stdin=b"short\n")

    async def test_key_in_parts(self) -> None:
        """Catches parts that land in one file, over an older one, or half of them when the disk refuses one (L12)."""
        await self.open()
        words = ("archive", "key", "backup", "key.txt", "--parts", "3", "--need", "2", "--password-stdin")
        made = await self.cli(*words, stdin=b"long enough\n")
        assert "key-1.txt, key-2.txt, key-3.txt written" in made.out
        assert [(self.directory / f"key-{n}.txt").read_text() for n in (1, 2, 3)] == ["KEY PAPER of 11 characters\n"] * 3
        (self.directory / "key-1.txt").unlink()
        assert "key-2.txt: exists already" in await self.refused(*words, stdin=b"long enough\n")
        assert not (self.directory / "key-1.txt").exists()
        page = tuple("key.html" if word == "key.txt" else word for word in words)
        assert "key.html written" in (await self.cli(*page, stdin=b"long enough\n")).out
        assert (self.directory / "key.html").read_text().startswith("<!doctype html>")
        too_many = tuple("4" if word == "2" else word for word in words)
        assert "2 to 3, of 3 parts" in await self.refused(
            *(w.replace("key.txt", "k.txt") for w in too_many), stdin=b"long enough\n"
        )

    async def test_key_change(self) -> None:
        """The three steps by command (rule 22): a paper that is never written must not leave a pending key, and what the old one opens is said."""
        rooms = await self.open()
        word = b"long enough\n"
        assert (await self.cli("archive", "key", "new", "no/where.txt", "--password-stdin", stdin=word)).code == 1
        assert rooms.root_keys.state.pending == ""
        made = await self.cli("archive", "key", "new", "new.txt", "--password-stdin", stdin=word)
        assert "pending" in made.out
        assert (self.directory / "new.txt").stat().st_mode & 0o777 == 0o600
        assert "pending already" in await self.refused("archive", "key", "new", "other.txt", "--password-stdin", stdin=word)
        assert not (self.directory / "other.txt").exists()
        assert "8899aabbccddeeff is pending" in (await self.cli("status")).out
        assert "wrong password" in await self.refused("archive", "key", "confirm", "new.txt", "--password-stdin", stdin=b"x\n")
        done = await self.cli("archive", "key", "confirm", "new.txt", "--password-stdin", stdin=word)
        assert "key 8899aabbccddeeff is in force" in done.out
        assert "Copies of a medium made before still open with it" in done.out
        assert "out of reach: medium 2" in (await self.cli("status")).out
        assert "no root key is pending" in await self.refused("archive", "key", "cancel")
        assert (await self.cli("archive", "key", "new", "-", "--password-stdin", stdin=word)).out.endswith("long enough\n")
        assert "dropped" in (await self.cli("archive", "key", "cancel")).out

    async def test_status_and_audit(self) -> None:
        """Status for people and programs; everything above stands in the audit log."""
        rooms = await self.open()
        rooms.health["smtp"] = "cannot listen"
        status = (await self.cli("status", "--json")).json
        [shown] = status["domains"]
        assert (shown["name"], shown["mode"], shown["primary"]["up"]) == ("example.test", "normal", True)
        assert [host["host"] for host in shown["primary"]["hosts"]] == ["[::1]:25"]
        assert "DOWN: cannot listen" in (await self.cli("status")).out
        await self.cli("domain", "mode", "example.test", "emergency")
        assert "domain.mode" in (await self.cli("audit")).out

    async def test_the_socket_is_nobody_elses(self) -> None:
        """Whoever can open the socket is the administrator: it must be closed to everybody else."""
        await self.open()
        assert self.socket.stat().st_mode & 0o777 == 0o600

    async def test_passwords_are_asked_for(self) -> None:
        """--as without the environment's password must ask, not act as the local administrator."""
        await self.open()
        done = await self.cli("--as", "alice@example.test", "status")
        assert done.code == 1
        assert "Password of alice@example.test" in done.err


class TestDeepDirectory(CliCase):
    """A data directory whose socket has a longer path than the kernel takes."""

    depth = 5

    async def test_works(self) -> None:
        """Test runs and customers with long paths must get the command line too."""
        await self.open()
        assert len(str(self.socket)) > 107
        assert (await self.cli("status", "--json")).code == 0


def test_no_service(tmp_path: Path) -> None:
    """The commonest mistake must be told in one line."""
    (tmp_path / "hornetmail.toml").write_text(config.write_default(tmp_path, "mx.example.test", 20000))
    done = run(tmp_path, "status")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"hornetmail: the service does not run (nobody listens at {tmp_path.resolve()}/hornetmail.sock)\n"
    done = run(tmp_path, "-c", "elsewhere.toml", "status")
    assert (done.code, done.err) == (
        1,
        "hornetmail: elsewhere.toml: No such file or directory; name the installation's hornetmail.toml: hornetmail -c FILE …\n",
    )
    assert run(tmp_path, "--version").out.startswith("hornetmail ")
    assert run(tmp_path, "no-such-command").code == 2
    assert run(tmp_path).code == 2
    assert run(tmp_path, "--help").code == 0


def test_check_config(tmp_path: Path) -> None:
    """It works without the service, and finds what would stop the start."""
    file = tmp_path / "hornetmail.toml"
    file.write_text(config.write_default(tmp_path, "mx.example.test", 20000))
    done = run(tmp_path, "check-config")
    assert (done.code, "$.tls.certificate" in done.err, done.err.count("\n")) == (1, True, 1)
    (tmp_path / "tls").mkdir()
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=mx",
        "-days",
        "2",
    ]
    for name in ("cert", "other"):
        files = [
            "-out",
            str(tmp_path / f"tls/{name}.pem"),
            "-keyout",
            str(tmp_path / f"tls/{name.replace('cert', 'key')}-key.pem"),
        ]
        subprocess.run([*make, *files], check=True, capture_output=True)
    (tmp_path / "tls/key.pem").write_bytes((tmp_path / "tls/other-key.pem").read_bytes())
    assert "the key is not the certificate's" in run(tmp_path, "check-config").err
    (tmp_path / "tls/key.pem").write_bytes((tmp_path / "tls/key-key.pem").read_bytes())
    done = run(tmp_path, "check-config")
    assert (done.code, done.out) == (0, "hornetmail.toml is well\n")
    assert json.loads(run(tmp_path, "check-config", "--json").out) == {"ok": True, "problems": []}
    file.write_text(file.read_text().replace("relay = ", "relay = 7 #"))
    done = run(tmp_path, "check-config")
    assert (done.code, "$.listen.relay" in done.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dir", "full"), "is not empty"),
        (("--dir", "new", "--hostname", "a b"), "not a domain"),
        (("--dir", "new", "--hostname", "mx.example.test", "--ports", "65000"), "--ports 65000"),
        (("--dir", "new", "--hostname", "mx.example.test", "--ports", "10000"), "port 10080"),
        ((), "--dir"),
    ],
)
def test_init_refuses(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """Wrong use of ``init`` exits 2 and touches nothing; above all no directory that holds something."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mail").write_text("precious")
    done = run(tmp_path, "init", *arguments)
    assert (done.code, words in done.err) == (2, True), done.err
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_narrow_terminal_cuts_nothing() -> None:
    """Catches an ID that is shown as ``38479388095…`` on a terminal of 60 columns: nobody could acknowledge that alarm."""
    row = (
        "384793880952193024",
        "primary-unknown",
        "a-domain-with-a-long-name.example.test",
        "there is no host of the primary's name",
    )
    script = f"from hornetmail.cli.output import table; table(('ID', 'Code', 'Subject', 'What'), [{row!r}])"
    near, far = pty.openpty()
    environment = {**os.environ, "COLUMNS": "60", "TERM": "xterm", "NO_COLOR": "1"}
    subprocess.run([sys.executable, "-c", script], stdout=far, env=environment, check=True, timeout=60)
    os.close(far)
    shown = os.read(near, 65536).decode()
    os.close(near)
    assert row[0] in shown
    assert "…" not in shown
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines() if line.strip()][1:]
    assert len(lines) > 1
    assert max(map(len, lines)) <= 60
    assert sorted("".join("".join(lines).split())) == sorted("".join("".join(row).split()))


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory made by ``init``."""
    top = tmp_path_factory.mktemp("installation")
    assert run(top, "init", "--dir", "data", "--hostname", "mx.example.test", "--ports", "20000").code == 0
    return top / "data"


def told(done: Done, words: str) -> None:
    """One line that says what is wrong."""
    assert (done.code, done.out, words in done.err, done.err.count("\n")) == (1, "", True, 1), done.err


def test_offline_commands_say_what_is_wrong(installation: Path) -> None:
    """Catches a wrong password, a paper with a slip and a damaged or missing database or key that end in a traceback instead of a line (A4, A11, L3)."""
    paper = backup(os.urandom(32), "paper-secret-1", 0.0)
    (installation / "key.txt").write_text(paper)
    (installation / "slip.txt").write_text(paper.replace("\n 2  ", "\n 2  Z"))
    key = ("archive", "key", "import", "--password-stdin")
    restoring = ("archive", "restore", "/nowhere", "--password-stdin", "--key")
    for command in (key, restoring):
        told(run(installation, *command, "key.txt", stdin=b"another-secret\n"), "the password does not open key")
        told(run(installation, *command, "slip.txt", stdin=b"paper-secret-1\n"), "line 2")
    told(run(installation, *restoring, "key.txt", stdin=b"paper-secret-1\n"), "/nowhere")
    database = installation / "control.db"
    sound = database.read_bytes()
    database.write_bytes(os.urandom(len(sound)))
    told(run(installation, "archive", "rebuild"), "the control database cannot be opened")
    database.write_bytes(sound)
    (installation / "keys/server.key").write_bytes(b"short")
    told(run(installation, "archive", "rebuild"), "server.key")


def test_root_does_not_write_into_the_services_directory(tmp_path: Path) -> None:
    """Catches an offline command or a start as root in a directory of the service's user: it goes well, and afterwards the service cannot read what was made."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    made = run(tmp_path, "init", "--dir", "data", "--hostname", "mx.example.test", "--ports", "20000")
    assert made.code == 0
    (tmp_path / "empty").mkdir()
    for name in ("data", "empty"):
        os.chown(tmp_path / name, 65534, 65534)
    before = sorted(path.name for path in (tmp_path / "data").iterdir())
    told(run(tmp_path / "data", "archive", "rebuild"), "run it as that user: runuser -u nobody")
    told(run(tmp_path, "init", "--dir", "empty", "--hostname", "mx.example.test"), "runuser -u nobody")
    (tmp_path / "key.txt").write_text(backup(os.urandom(32), "paper-secret-1", 0.0))
    command = ("archive", "key", "import", "key.txt", "--password-stdin")
    told(run(tmp_path, "-c", "data/hornetmail.toml", *command, stdin=b"paper-secret-1\n"), "runuser -u nobody")
    with pytest.raises(SystemExit):
        build(reactor, tmp_path / "data/hornetmail.toml", frozenset())
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == before
    assert list((tmp_path / "empty").iterdir()) == []


class TestRetention(CliCase):
    async def test_rules(self) -> None:
        """Catches rules that come out other than they were typed, that go into force unasked, and a preview that changes something."""
        rooms = await self.open()
        shown = await self.cli("archive", "retention", "show")
        assert "no rules" in shown.out, shown.err
        words = ("example.test/in=3650", "spam=30", "out/ham=400")
        seen = await self.cli("archive", "retention", "preview", *words)
        assert "12 of 1000 mails would be marked" in seen.out, seen.err
        declined = await self.cli("archive", "retention", "set", *words, stdin=b"n\n")
        assert (declined.code, rooms.retention.states) == (1, {})
        done = await self.cli("archive", "retention", "set", *words, "--yes")
        assert done.code == 0, done.err
        shown = await self.cli("archive", "retention", "show")
        assert [line.split() for line in shown.out.splitlines()[1:4]] == [
            ["spam", "30"],
            ["out/ham", "400"],
            ["example.test/in", "3650"],
        ]
        assert (await self.cli("archive", "retention", "preview", "--json")).json["going"] == 12
        assert "WHAT=DAYS" in (await self.refused("archive", "retention", "set", "in", code=2))
        assert "nobody.test" in await self.refused("archive", "retention", "set", "nobody.test=5", "--yes")
        assert (await self.cli("archive", "retention", "set", "--none")).code == 1
        assert (await self.cli("archive", "retention", "set", "--none", "--yes")).code == 0
        assert (await self.cli("archive", "retention", "show", "--json")).json["rules"] == []
        rooms.retention.states[1] = RetentionState(waiting=2, gone_by=1.9e9, waits=("the mirror does not follow",))
        shown = await self.cli("archive", "retention", "show")
        assert "2 packs" in shown.out
        assert "free of all that went by 2030-03-17" in shown.out
        assert "for longer: the mirror does not follow" in shown.out
        kept = await self.cli("archive", "retention", "keep", "12", "13", "--until", "2199-12-31", "--reason", "a case")
        assert re.fullmatch(r"kept until 2200-01-01 \S+: 2 mails\n", kept.out), kept.err
        ((ids, until, _, reason),) = rooms.retention.kept
        assert (ids, until, reason) == ((12, 13), 7_258_118_400.0, "a case")
        assert "a day to come" in await self.refused("archive", "retention", "keep", "12", "--until", "1999-12-31")

    async def test_holds(self) -> None:
        """Catches holds that the command line cannot make, list or end, and one that ends without a word though it never was."""
        rooms = await self.open()
        added = await self.cli("archive", "hold", "add", "case 7", "--query", "from:eve", "--id", "12", "--reason", "court")
        assert added.out.startswith("new in it: 4 mails\n"), added.err
        assert "for that an auditor holds" in added.out, "its words are not looked for in texts"
        assert rooms.retention.asked == [("from:eve", False, (12,))]
        listed = await self.cli("archive", "hold", "list")
        assert "case 7" in listed.out
        assert "court" in listed.out
        assert (await self.cli("archive", "hold", "release", "case 7")).code == 0
        assert (await self.cli("archive", "hold", "list", "--json")).json[0]["released"] > 0
        assert "no hold nope" in await self.refused("archive", "hold", "release", "nope")
