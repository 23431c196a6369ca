"""A store that answers, and not with the truth: what is believed of it is what it shows (A10, rule 8e)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from smbprotocol.exceptions import SMBOSError
from twisted.internet import reactor as _reactor
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from hornetmail.archive.media import s3, smb
from hornetmail.archive.media.medium import Identity, Medium, MediumAway, MediumError, MediumUnread
from hornetmail.archive.media.s3 import BucketPlace
from hornetmail.archive.media.settings import BucketSettings

reactor: Any = _reactor
ARCHIVE = bytes(range(16))
LABEL = b'{"archive":"%s","medium":1,"format":1}' % ARCHIVE.hex().encode()


class Store(Resource):
    """Knows the label; ``lies`` answers all else."""

    isLeaf = True

    def __init__(self, lies: Callable[[Request], bytes]) -> None:
        super().__init__()
        self.lies = lies
        self.asked = 0

    def render(self, request: Request) -> bytes:
        if request.path.endswith(b"/medium"):
            return LABEL
        self.asked += 1
        return self.lies(request)


def listing(items: str, more: str = "") -> bytes:
    return f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{items}{more}</ListBucketResult>'.encode()


def item(key: str, size: str = "5") -> str:
    return f"<Contents><Key>{key}</Key><Size>{size}</Size></Contents>"


def test_a_file_that_a_scanner_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a share on which a put fails, and leaves half a pack, whenever the server's virus scanner or indexer looks at the file that was just closed; a right that is missing for good is told all the same."""
    pauses: list[float] = []
    monkeypatch.setattr(smb, "sleep", pauses.append)
    answers = iter((0xC0000043, 0xC0000056, 0))

    def held() -> None:
        if status := next(answers):
            raise SMBOSError(status, "pack")

    smb._patiently(held)
    assert pauses == list(smb.HELD[:2])

    def closed() -> None:
        raise SMBOSError(0xC0000022, "pack")

    pauses.clear()
    with pytest.raises(SMBOSError):
        smb._patiently(closed)
    assert pauses == list(smb.HELD)


class Lies(TestCase):
    def medium(self, lies: Callable[[Request], bytes]) -> Medium:
        self.store = Store(lies)
        port = reactor.listenTCP(0, Site(self.store), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        where = f"http://127.0.0.1:{port.getHost().port}"
        medium = Medium(1, BucketPlace(BucketSettings(where, "bucket", "p", key_id="key"), "secret", reactor))
        self.addCleanup(deferToThread, medium.close)
        medium.expect(ARCHIVE)
        assert Identity(ARCHIVE.hex(), 1)
        return medium

    async def refuses(self, kind: type[MediumError], call: Callable[..., Any], *args: Any) -> str:
        with pytest.raises(kind) as caught:
            await deferToThread(call, *args)
        return str(caught.value)

    async def test_lists_that_are_not_whole(self) -> None:
        """Catches half a list that is taken for all there is: packs would be missed, or be thought of as gone; and a list without an end."""
        one = item("p/packs/a.pack")
        for answer in (
            listing(one, "<IsTruncated>true</IsTruncated>"),
            listing(one, "<IsTruncated>true</IsTruncated><NextMarker>p/packs/a.pack</NextMarker>"),
            listing(one, "<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>"),
        ):
            medium = self.medium(lambda request, answer=answer: answer)  # type: ignore[misc]
            assert "does not say how to go on" in await self.refuses(MediumError, medium.names, "packs/")
            assert self.store.asked <= 3

    async def test_lists_that_are_none(self) -> None:
        """Catches another error than a medium's, which would end what asks."""
        for answer in (
            b"<html>log in first</html>",
            b"",
            b"\xff\x00",
            listing(item("p/packs/a.pack", "much")),
            listing(item("p/packs/a.pack", "")),
        ):
            medium = self.medium(lambda request, answer=answer: answer)  # type: ignore[misc]
            assert "the store's list of objects" in await self.refuses(MediumError, medium.names, "packs/")

    async def test_keys_of_others(self) -> None:
        """Catches keys that are not ours and are taken for it, and one that cannot be read and hides all others."""
        items = (
            item("other/packs/x.pack")
            + item("p%2Fpacks%2Fa.pack")
            + item("p/packs/%01odd+one.pack")
            + item("packs/b.pack")
            + item("p/packs/A.pack")
        )
        medium = self.medium(lambda request: listing(items, "<EncodingType>url</EncodingType>"))
        assert await deferToThread(medium.names, "packs/") == [("packs/a.pack", 5)]

    async def test_answers_that_break_off(self) -> None:
        """Catches a part of an object that is taken for all of it."""

        def half(request: Request) -> bytes:
            request.setHeader(b"content-length", b"1000")
            request.write(b"x" * 400)
            transport: Any = request.transport
            transport.loseConnection()
            return b""

        medium = self.medium(half)
        await self.refuses(MediumAway, medium.get, "packs/a.pack")
        assert self.store.asked == s3.TRIES

    async def test_a_put_that_breaks_off(self) -> None:
        """Catches another error than a medium's from a store that goes away while it is sent a pack, which nobody expects; and one told in a word that says nothing to people."""
        ends: list[int] = []

        class Breaking(Protocol):
            seen = 0

            def dataReceived(self, data: bytes) -> None:
                if data.startswith(b"GET "):
                    cast(ITransport, self.transport).write(
                        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(LABEL), LABEL)
                    )
                    return
                self.seen += len(data)
                if self.seen > 100_000:
                    ends.append(self.seen)
                    cast(Any, self.transport).abortConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(Breaking), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        where = f"http://127.0.0.1:{port.getHost().port}"
        medium = Medium(1, BucketPlace(BucketSettings(where, "bucket", "p", key_id="key"), "secret", reactor))
        self.addCleanup(deferToThread, medium.close)
        medium.expect(ARCHIVE)
        text = await self.refuses(MediumAway, medium.put, "packs/a.pack", bytes(16 << 20))
        assert len(ends) == s3.TRIES
        assert "Connection" in text
        assert "Failed" not in text

    async def test_answers_that_do_not_end(self) -> None:
        """Catches a store that fills the memory of who asks, and one whose answer never comes."""
        self.patch(s3, "WHOLE", 1000)
        medium = self.medium(lambda request: b"x" * (3 << 20))
        assert "more than 1000 bytes" in await self.refuses(MediumError, medium.get, "packs/a.pack")
        self.patch(s3, "ANSWER", 0.2)

        def later(request: Request) -> Any:
            from twisted.web.server import NOT_DONE_YET

            return NOT_DONE_YET

        medium = self.medium(later)
        assert "no answer in time" in await self.refuses(MediumAway, medium.get, "packs/a.pack")
        assert self.store.asked == 1, "it is not waited for three times"

    async def test_trouble_that_passes(self) -> None:
        """Catches a store that is given up at the first 503, one whose trouble is taken for a missing object, and one that has too many requests, or whose line was slow, taken for one that refuses: each try
        was at once, and each object of it an error of its own."""
        self.patch(s3, "PAUSE", 0.01)
        answers = iter((503, 500, 200))

        def sometimes(request: Request) -> bytes:
            request.setResponseCode(next(answers))
            return b"bytes"

        assert await deferToThread(self.medium(sometimes).get, "packs/a.pack") == b"bytes"

        def never(request: Request) -> bytes:
            request.setResponseCode(503)
            return b"<Error><Code>SlowDown</Code><Message>later</Message></Error>"

        assert "503 SlowDown later" in await self.refuses(MediumAway, self.medium(never).get, "packs/a.pack")

        def skewed(request: Request) -> bytes:
            request.setResponseCode(403)
            return b"<Error><Code>RequestTimeTooSkewed</Code><Message>the difference is too large</Message></Error>"

        for status, code in ((429, "TooManyRequests"), (400, "RequestTimeout"), (503, "SlowDown")):
            answers = iter((status, status, 200))

            def busy(request: Request, answers: Iterator[int] = answers, code: str = code) -> bytes:
                request.setResponseCode(now := next(answers))
                request.setHeader(b"retry-after", b"0")
                return b"bytes" if now == 200 else b"<Error><Code>%s</Code></Error>" % code.encode()

            assert await deferToThread(self.medium(busy).get, "packs/a.pack") == b"bytes", code

        def always(request: Request) -> bytes:
            request.setResponseCode(429)
            request.setHeader(b"retry-after", b"0")
            return b"<Error><Code>TooManyRequests</Code></Error>"

        assert "429 TooManyRequests" in await self.refuses(MediumAway, self.medium(always).get, "packs/a.pack")
        assert self.store.asked == s3.TRIES
        assert "RequestTimeTooSkewed" in await self.refuses(MediumAway, self.medium(skewed).put, "packs/a.pack", b"x")

    async def test_one_object_in_cold_storage(self) -> None:
        """Catches one object that was moved to a class which has to be thawed, by a rule of the bucket, taken for a store that is away or for a lost object."""

        def cold(request: Request) -> bytes:
            request.setResponseCode(403)
            return b"<Error><Code>InvalidObjectState</Code><Message>not valid for the storage class</Message></Error>"

        medium = self.medium(cold)
        assert "packs/a.pack does not read" in await self.refuses(MediumUnread, medium.get, "packs/a.pack")

    async def test_one_object_that_is_closed(self) -> None:
        """Catches one object that its own right or key closes to us taken for a store that is away, with all that lies there; where not even the label may be read, it is away."""

        def denied(request: Request) -> bytes:
            request.setResponseCode(403)
            return b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"

        medium = self.medium(denied)
        assert "packs/a.pack does not read" in await self.refuses(MediumUnread, medium.get, "packs/a.pack")
        await self.refuses(MediumAway, medium.put, "packs/a.pack", b"x")
        await self.refuses(MediumAway, medium.names, "packs/")
        other = self.medium(denied)
        self.patch(self.store, "render", denied)
        await self.refuses(MediumAway, other.get, "packs/a.pack")

    async def test_versions_from_before(self) -> None:
        """Rule 23: catches deleted mail, and wrapped keys that were replaced, of which versions stay for good where the keeping of versions was suspended: such a store
        calls what it writes then version ``null``, and still has those from before."""
        kept = {"p/keyring": ["3f", "2e"], "p/packs/a.pack": ["1d"]}

        def suspended(request: Request) -> bytes:
            key = request.path.decode().removeprefix("/bucket/")
            if request.method == b"GET":
                named = request.args[b"prefix"][0].decode()
                found = "".join(f"<Version><Key>{named}</Key><VersionId>{one}</VersionId></Version>" for one in kept[named])
                return f"<ListVersionsResult><IsTruncated>false</IsTruncated>{found}</ListVersionsResult>".encode()
            if b"versionId" in request.args:
                kept[key].remove(request.args[b"versionId"][0].decode())
                return b""
            request.setHeader(b"x-amz-version-id", b"null")
            if "null" not in kept[key]:
                kept[key].insert(0, "null")
            return b""

        medium = self.medium(suspended)
        await deferToThread(medium.put, "keyring", b"new keys")
        assert kept["p/keyring"] == ["null"]
        await deferToThread(medium.delete, "packs/a.pack")
        assert kept["p/packs/a.pack"] == []
