"""Home with flags and folders to a real Dovecot (L13), as its master user both ways and with a person's own password; the connection killed at each step."""

from __future__ import annotations

import imaplib
from typing import Any

from twisted.internet import reactor as default_reactor
from twisted.protocols.portforward import ProxyFactory, ProxyServer

from hornetmail.core.delivery.filing import Form, HomeServer
from hornetmail.core.served import Host, TLSPolicy
from tests.delivery.filing import ALICE, BOB, FilingCase, letter
from tests.peers.dovecot import Dovecot

reactor: Any = default_reactor


class _Cutting(ProxyServer):
    """Passes everything on until the client said so many bytes; then both ends are cut."""

    def dataReceived(self, data: bytes) -> None:
        factory: Any = self.factory
        factory.left -= len(data)
        if factory.left < 0:
            factory.left = 1 << 60
            factory.cut += 1
            self.peer.transport.abortConnection()
            self.transport.abortConnection()
            return
        super().dataReceived(data)


class TestDovecot(FilingCase):
    timeout = 300

    async def build(self, primaries: int = 1, **domain: Any) -> None:
        self.dovecot = Dovecot(master="master-key")
        self.addCleanup(self.dovecot.close)
        await super().build(primaries, **domain)

    async def way(self, form: Form, port: int = 0) -> None:
        server = HomeServer(Host("127.0.0.1", port or self.dovecot.port), TLSPolicy.NONE, "hornet", form)
        await self.ways.set_server("example.test", 1, server, "master-key")

    def kept(self, user: str, folder: str) -> list[tuple[bytes, set[bytes], bytes]]:
        """Text, flags and date of what Dovecot has."""
        client = imaplib.IMAP4("127.0.0.1", self.dovecot.port, timeout=60)
        try:
            client.login(user, self.dovecot.password)
            if client.select(folder, readonly=True)[0] != "OK":
                return []
            found = []
            for number in client.search(None, "ALL")[1][0].split():
                _, data = client.fetch(number.decode(), "(FLAGS INTERNALDATE BODY.PEEK[])")
                assert isinstance(data[0], tuple)
                head, text = data[0]
                flags = set(imaplib.ParseFlags(head + data[1])) - {rb"\Recent"}  # type: ignore[operator]
                found.append((text, flags, head.partition(b"INTERNALDATE ")[2][:28]))
            return found
        finally:
            client.logout()

    async def test_master_user_and_own_password(self) -> None:
        """Folders with umlauts, flags, keywords and dates, sent mail, in both forms of the master user, and as oneself; once, after a second pass and a restart too."""
        await self.build()
        for place, form in enumerate((Form.AUTHZID, Form.STAR, None)):
            if form is not None:
                await self.way(form)
            else:
                await self.ways.set_server(
                    "example.test", 1, HomeServer(Host("127.0.0.1", self.dovecot.port), TLSPolicy.NONE), None
                )
                alice = self.directory.mailbox_by_id(1)
                assert alice is not None
                await self.ways.set_login(alice, ALICE, self.dovecot.password)
                assert "INBOX" in await self.filing.test(alice)
            await self.put(1, "Projekte/Größe & mehr", letter(f"p{place}"), ("\\Seen", "\\Flagged", "$Done"), 1e9 + place)
            await self.put(1, "Sent", letter(f"s{place}"), ("\\Seen",), 1e9, "\\Sent")
            await self.quiet()
            await self.quiet()
            await self.restart()
            await self.quiet()
            found = self.kept(ALICE, '"Projekte/Gr&APYA3w-e &- mehr"')
            assert [text for text, _, _ in found] == [letter(f"p{n}") for n in range(place + 1)]
            assert found[-1][1] == {rb"\Seen", rb"\Flagged", b"$Done"}
            assert b"09-Sep-2001" in found[-1][2]
            assert [text for text, _, _ in self.kept(ALICE, "Sent")] == [letter(f"s{n}") for n in range(place + 1)]
        assert (await self.filing.progress(1)).home == 6

    async def test_cut_at_each_step(self) -> None:
        """The connection is cut after ever more of what we say; each message arrives once."""
        await self.build()
        factory: Any = ProxyFactory("127.0.0.1", self.dovecot.port)
        factory.protocol, factory.noisy, factory.cut = _Cutting, False, 0
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        await self.way(Form.AUTHZID, port.getHost().port)
        place = 0
        left = 1
        while True:
            before, factory.left = factory.cut, left
            await self.put(1, f"F{place}", letter(place, "x" * 200))
            await self.quiet()
            factory.left = 1 << 60
            if factory.cut == before:
                break
            await self.restart()
            await self.quiet()
            assert [text for text, _, _ in self.kept(ALICE, f"F{place}")] == [letter(place, "x" * 200)], left
            place += 1
            left += 37
        assert factory.cut > 5
        for one in range(place + 1):
            assert len(self.kept(ALICE, f"F{one}")) == 1

    async def test_bytes(self) -> None:
        """Eight bits, bare line ends, long lines, and mail without any header come back as they went."""
        await self.build()
        await self.way(Form.STAR)
        mails = [
            b"Subject: \xfc\r\n\r\n\xff\xfe\r\n",
            b"Subject: long\r\n\r\n" + b"x" * 100_000 + b"\r\n",
            b"\r\nno header\r\n",
            b"Message-ID: <\xc3\xa9@x>\r\nSubject: id\r\n\r\nx\r\n",
        ]
        for number, data in enumerate(mails):
            await self.put(2, "Bytes", data, (), 1e9 - number)
        await self.quiet()
        assert [text for text, _, _ in self.kept(BOB, "Bytes")] == mails
