"""A medium in a bucket of any object store that speaks S3 (A10): treq on the reactor, requests signed with botocore's SigV4.

Calls block, in threads of their caller; the reactor of the service carries the bytes. A put is one request, so half an object is never seen.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote_plus, urlsplit
from xml.etree import ElementTree

import treq
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread
from twisted.web._newclient import RequestNotSent  # raised to callers, exported nowhere
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from zope.interface import implementer

from hornetmail.archive.media.medium import (
    IDENTITY,
    IPlace,
    IVisit,
    PlaceAway,
    PlaceLocked,
    PlaceMissing,
    PlaceTrouble,
    Space,
    valid_name,
)
from hornetmail.archive.media.settings import BucketSettings
from hornetmail.disk.files import DiskFull
from hornetmail.net.tls import HTTPSPolicy

ANSWER = 60.0
"""Seconds that a request may take, and one more for each 100 KB that it carries or may bring."""

FRESH = 5.0
"""Seconds for which an identity that was read is believed."""

WHOLE = 256 << 20
"""Bytes of an object that is read whole, at most: merged packs have half of it."""

TRIES = 3
_ONCE = ("packs/", "journal/")
"""What is never written twice under one name."""

PAUSE = 0.5
MOST_PAUSE = 10.0
"""Seconds before the second try, twice as many before the third; and at most, whatever the store asks for."""

_VERSION, _UNTIL, _AFTER = "x-amz-version-id", "x-amz-object-lock-retain-until-date", "retry-after"
DAY = 86400.0
_UNREACHABLE = (
    ConnectError, ConnectionLost, DNSLookupError, RequestNotSent, RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived,
    TimeoutError, CancelledError,
)  # fmt: skip
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "EntityTooLarge"})
_AWAY = frozenset({"NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "AllAccessDisabled"})  # fmt: skip


class _TooMuch(Exception):
    """An answer that does not end."""


class _Answer:
    def __init__(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.status = status
        self.data = data
        self.headers = headers

    @property
    def passes(self) -> bool:
        """Whether the store says that the same may go well in a moment: its own trouble, too many requests, a line that was too slow."""
        return self.status in (429, 500, 502, 503, 504) or (self.status == 400 and self.error[0] == "RequestTimeout")

    @property
    def error(self) -> tuple[str, str]:
        """The store's code and message."""
        found = {child.tag.rpartition("}")[2]: child.text or "" for child in _parsed(self.data) or ()}
        return found.get("Code", ""), found.get("Message", "")


def _parsed(data: bytes) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError:
        return None


@implementer(IPlace)
class BucketPlace:
    """``reactor`` runs in another thread than the one that calls."""

    def __init__(self, settings: BucketSettings, secret: str, reactor: Any, policy: Any = None) -> None:
        self.where = settings.where
        self.settings = settings
        self._reactor = reactor
        self._signer = S3SigV4Auth(Credentials(settings.key_id, secret), "s3", settings.region) if settings.key_id else None
        self._policy = policy
        self._client: HTTPClient | None = None
        self._pool: HTTPConnectionPool | None = None

    @contextlib.contextmanager
    def visit(self) -> Iterator[IVisit]:
        """See IPlace."""
        yield _Visit(self)

    def make(self) -> None:
        """See IPlace; a bucket is made by its owner."""

    def close(self) -> None:
        """See IPlace."""
        pool, self._pool, self._client = self._pool, None, None
        if pool is not None:
            # One whose answer ends just now comes back to the pool after it was emptied.
            pool.cachedConnectionTimeout = 0
            self._reactor.callFromThread(pool.closeCachedConnections)

    def now(self) -> float:
        """Unix seconds."""
        return float(self._reactor.seconds())

    def slot(self) -> object:
        """Equal for a few seconds."""
        return self._reactor.seconds() // FRESH

    def ask(
        self,
        method: str,
        name: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        data: bytes | memoryview = b"",
        may: float = 0.0,
        forbidden: bool = False,
    ) -> _Answer:
        """One signed request; ``may``: bytes that the answer may have; ``forbidden``: 403 is an answer too. Raises PlaceAway, PlaceTrouble, PlaceMissing, DiskFull."""
        url = self.url_of(name) + ("?" + "&".join(f"{k}={quote(v, safe='')}" for k, v in sorted(query.items())) if query else "")
        for attempt in range(1, TRIES + 1):
            try:
                answer: _Answer = blockingCallFromThread(self._reactor, self._send, method, url, headers, data, may)  # type: ignore[arg-type]
            except _UNREACHABLE as error:
                if attempt == TRIES or _too_late(error):
                    raise PlaceAway(_why(error)) from error
                continue
            except _TooMuch as error:
                raise PlaceTrouble(str(error)) from error
            if attempt == TRIES or not answer.passes:
                break
            self._wait(answer, attempt)
        if answer.status < 300 or answer.status == 416 or (forbidden and answer.status == 403):
            return answer
        self._refused(answer, name, one=method == "GET" and name not in ("", IDENTITY))
        raise AssertionError

    def _wait(self, answer: _Answer, attempt: int) -> None:
        """A moment before the next try, longer if the store says so."""
        asked = answer.headers[_AFTER]
        seconds = min(MOST_PAUSE, float(asked)) if asked.isdecimal() else PAUSE * 2 ** (attempt - 1)
        blockingCallFromThread(self._reactor, deferLater, self._reactor, seconds)

    def _refused(self, answer: _Answer, name: str, one: bool) -> None:
        """``one``: an object was asked for, which may have a right or a key of its own; of the others that says nothing."""
        code, message = answer.error
        text = f"the store answers {answer.status} {code} {message}".strip()[:300]
        if answer.status == 404 and code != "NoSuchBucket":
            raise PlaceMissing(name)
        if answer.status == 507 or code in _FULL:
            raise DiskFull(errno.ENOSPC, text)
        if one and code == "AccessDenied":
            raise PlaceTrouble(text)
        if code in _AWAY or answer.passes or answer.status >= 500 or (answer.status in (401, 403) and not code):
            raise PlaceAway(text)
        raise PlaceTrouble(text)

    def url_of(self, name: str) -> str:
        """Where an object lies; ``""``: the bucket."""
        chosen = self.settings
        key = "/".join(part for part in (chosen.prefix, name) if part) if name else ""
        base = urlsplit(chosen.endpoint)
        if chosen.style == "virtual":
            return f"{base.scheme}://{chosen.bucket}.{base.netloc}/{quote(key)}"
        return (
            f"{base.scheme}://{base.netloc}/{chosen.bucket}/{quote(key)}"
            if key
            else f"{base.scheme}://{base.netloc}/{chosen.bucket}"
        )

    def _send(self, method: str, url: str, headers: Mapping[str, str], data: bytes, may: float) -> Deferred[_Answer]:
        request = AWSRequest(method=method, url=url, data=data, headers=dict(headers))
        if self._signer is not None:
            self._signer.add_auth(request)
        signed = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")}
        sent: Deferred[_Answer] = Deferred.fromCoroutine(self._exchange(method, url, signed, data))
        sent.addTimeout(ANSWER + (len(data) + may) / 100_000, self._reactor)
        return sent

    async def _exchange(self, method: str, url: str, headers: dict[str, str], data: bytes) -> _Answer:
        # As bytes: Twisted keeps the names that it has seen, and others give it bytes.
        raw = Headers({name.encode(): [value.encode()] for name, value in headers.items()})
        response = await self._http().request(method, url, headers=raw, data=data or None, allow_redirects=False)
        parts: list[bytes] = []
        held = 0

        def take(part: bytes) -> None:
            nonlocal held
            held += len(part)
            if held > WHOLE + (1 << 20):
                raise _TooMuch(f"the store answers with more than {WHOLE} bytes")
            parts.append(part)

        await treq.collect(response, take)
        # Of the headers what says whether the store keeps versions, for how long it locks them, and when to come again.
        kept = {
            name: (response.headers.getRawHeaders(name.encode()) or [b""])[-1].decode("latin-1")
            for name in (_VERSION, _UNTIL, _AFTER)
        }
        return _Answer(response.code, b"".join(parts), kept)

    def _http(self) -> HTTPClient:
        if self._client is None:
            self._pool = HTTPConnectionPool(self._reactor)
            policy = self._policy or HTTPSPolicy()
            self._client = HTTPClient(Agent(self._reactor, policy, connectTimeout=10, pool=self._pool))
        return self._client


def _too_late(error: BaseException) -> bool:
    """Whether our own limit ended it: to try again would take as long once more."""
    given_up = (TimeoutError, CancelledError)
    return isinstance(error, given_up) or any(isinstance(one.value, given_up) for one in getattr(error, "reasons", None) or ())


def _seconds(when: str) -> float:
    """Of an ISO 8601 date; far away if it does not read."""
    try:
        return datetime.fromisoformat(when.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return float("inf")


def _why(error: BaseException) -> str:
    if _too_late(error):
        return "no answer in time"
    reasons = [one.value for one in getattr(error, "reasons", None) or ()] or [error]
    said = [" ".join(str(reason).split())[:300] for reason in reasons]
    return next((text for text in reversed(said) if text), f"the connection broke off ({type(reasons[-1]).__name__})")


@implementer(IVisit)
class _Visit:
    def __init__(self, place: BucketPlace) -> None:
        self._place = place
        self._prefix = f"{place.settings.prefix}/" if place.settings.prefix else ""

    def mark(self) -> object:
        """See IVisit: a bucket is not unmounted."""
        return self._place.slot()

    def number(self) -> int:
        """See IVisit: nobody can tell a bucket from its copy."""
        return 0

    def put(self, name: str, data: bytes | memoryview) -> None:
        """See IVisit."""
        headers = {
            "content-type": "application/octet-stream",
            "content-md5": base64.b64encode(hashlib.md5(data).digest()).decode(),
        }
        # The client takes no views; it holds this pack in memory while it is sent.
        version = self._place.ask("PUT", name, {}, headers, bytes(data)).headers[_VERSION]
        # "null": versions are not kept now, and those from when they were are still there.
        if version and not name.startswith(_ONCE):
            # What was there before is wrapped keys under a root key that was replaced, say: it shall not be had again.
            for older, _ in self._versions(self._prefix + name):
                if older != version:
                    self._place.ask("DELETE", name, {"versionId": older}, {}, forbidden=True)

    def lock(self, name: str, until: float) -> None:
        """See IVisit: the store's object lock, for ``lock_days`` at most."""
        if not self._place.settings.lock_days:
            return
        until = min(until, self._place.now() + self._place.settings.lock_days * DAY)
        when = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        data = f"<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>{when}</RetainUntilDate></Retention>".encode()
        headers = {"content-type": "application/xml", "content-md5": base64.b64encode(hashlib.md5(data).digest()).decode()}
        self._place.ask("PUT", name, {"retention": ""}, headers, data)

    def get(self, name: str, start: int, length: int) -> bytes:
        """See IVisit."""
        if length == 0:
            self._place.ask("HEAD", name, {}, {})
            return b""
        headers = {}
        if start or length > 0:
            headers["range"] = f"bytes={start}-" + (str(start + length - 1) if length > 0 else "")
        answer = self._place.ask("GET", name, {}, headers, may=length if length > 0 else WHOLE)
        if answer.status == 416:
            return b""
        # A store that does not know ranges answers 200 and all of it.
        if answer.status == 200 and "range" in headers:
            return answer.data[start : start + length] if length > 0 else answer.data[start:]
        return answer.data

    def names(self, prefix: str, after: str, limit: int) -> Sequence[tuple[str, int]]:
        """See IVisit."""
        found: list[tuple[str, int]] = []
        token, seen = "", set[str]()
        while True:
            # Others may put keys there that XML cannot say.
            query = {"list-type": "2", "prefix": self._prefix + prefix, "max-keys": "1000", "encoding-type": "url"}
            if token:
                query["continuation-token"] = token
            elif after:
                query["start-after"] = self._prefix + after
            tree = _parsed(self._place.ask("GET", "", query, {}, may=1 << 20).data)
            if tree is None or not tree.tag.endswith("ListBucketResult"):
                raise PlaceTrouble("the store's list of objects does not read")
            found += self._listed(tree)
            token = tree.findtext("{*}NextContinuationToken") or ""
            more = (tree.findtext("{*}IsTruncated") or "").strip().lower() == "true"
            if token in seen or (more and not token):
                # What is not listed would be taken for lost, or for gone.
                raise PlaceTrouble("the store's list of objects has more, and does not say how to go on")
            seen.add(token)
            if not more or (limit and len(found) >= limit):
                break
        found.sort()
        return found[:limit] if limit else found

    def _listed(self, tree: ElementTree.Element) -> list[tuple[str, int]]:
        """What a page names of ours. Raises PlaceTrouble."""
        encoded = (tree.findtext("{*}EncodingType") or "") == "url"
        found = []
        for item in tree.iterfind("{*}Contents"):
            key, size = item.findtext("{*}Key") or "", item.findtext("{*}Size") or ""
            key = unquote_plus(key) if encoded else key
            name = key.removeprefix(self._prefix)
            if key.startswith(self._prefix) and valid_name(name):
                if not size.strip().isdecimal():
                    raise PlaceTrouble(f"the store's list of objects does not say how long {name} is")
                found.append((name, int(size)))
        return found

    def delete(self, name: str) -> None:
        """See IVisit. A bucket that locks objects keeps versions, and a plain DELETE only hides the newest: what is locked is not even hidden, and
        what is not goes with all its versions."""
        if self._place.settings.lock_days:
            with contextlib.suppress(PlaceMissing):
                until = self._place.ask("HEAD", name, {}, {}).headers[_UNTIL]
                if until and _seconds(until) > self._place.now():
                    raise PlaceLocked(f"{name} is locked until {until[:10]}")
        with contextlib.suppress(PlaceMissing):
            version = self._place.ask("DELETE", name, {}, {}).headers[_VERSION]
            if version:
                self._delete_versions(name)

    def _delete_versions(self, name: str) -> None:
        """All that the bucket keeps of an object; what hides it goes last, so that a try that fails is begun again."""
        hiding = []
        for version, hides in self._versions(self._prefix + name):
            if hides:
                hiding.append(version)
            elif self._place.ask("DELETE", name, {"versionId": version}, {}, forbidden=True).status == 403:
                raise PlaceLocked(f"{name} is locked until {self._locked_until(name, version)}")
        for version in hiding:
            self._place.ask("DELETE", name, {"versionId": version}, {})

    def _locked_until(self, name: str, version: str) -> str:
        until = self._place.ask("HEAD", name, {"versionId": version}, {}).headers[_UNTIL]
        return until[:10] or "a day that the store does not tell"

    def _versions(self, key: str) -> list[tuple[str, bool]]:
        """Of one object: their IDs, and whether each only hides those before."""
        found: list[tuple[str, bool]] = []
        query, seen = {"versions": "", "prefix": key}, set[tuple[str, str]]()
        while True:
            tree = _parsed(self._place.ask("GET", "", query, {}, may=1 << 20).data)
            if tree is None:
                raise PlaceTrouble("the store's list of versions does not read")
            for item in tree:
                kind = item.tag.rpartition("}")[2]
                if kind in ("Version", "DeleteMarker") and item.findtext("{*}Key") == key:
                    found.append((item.findtext("{*}VersionId") or "", kind == "DeleteMarker"))
            if (tree.findtext("{*}IsTruncated") or "").strip().lower() != "true":
                return found
            following = tree.findtext("{*}NextKeyMarker") or "", tree.findtext("{*}NextVersionIdMarker") or ""
            if not following[0] or following in seen:
                # What is not listed would stay there for good.
                raise PlaceTrouble("the store's list of versions has more, and does not say how to go on")
            if following[0] != key:
                return found
            seen.add(following)
            query |= {"key-marker": following[0], "version-id-marker": following[1]}

    def sweep(self, before: float) -> int:
        """See IVisit: a put is one request, and leaves nothing."""
        return 0

    def space(self) -> Space:
        """See IVisit; object stores do not say."""
        return Space()
