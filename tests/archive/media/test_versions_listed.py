"""A bucket that keeps versions, and lists them in pages (rule 23)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.threads import deferToThread
from twisted.web.server import Request

from hornetmail.archive.media.medium import Medium, MediumError
from tests.archive.media import test_lying_store

KEY = "p/packs/a.pack"


def page(versions: str, more: str = "") -> bytes:
    items = "".join(f"<Version><Key>{KEY}</Key><VersionId>{one}</VersionId></Version>" for one in versions)
    return f"<ListVersionsResult>{items}{more}</ListVersionsResult>".encode()


def going_on(key: str, version: str) -> str:
    return (
        f"<IsTruncated>true</IsTruncated><NextKeyMarker>{key}</NextKeyMarker><NextVersionIdMarker>{version}</NextVersionIdMarker>"
    )


class Versions(test_lying_store.Lies):
    locals().update({name: None for name in dir(test_lying_store.Lies) if name.startswith("test_")})

    def listing(self, pages: Callable[[str], bytes]) -> Medium:
        """``pages`` answers by the version that was last before; what is removed is in ``removed``."""
        self.removed: list[str] = []

        def answer(request: Request) -> bytes:
            if b"versions" in request.args:
                return pages(request.args.get(b"version-id-marker", [b""])[0].decode())
            assert request.method == b"DELETE"
            self.removed += [one.decode() for one in request.args.get(b"versionId", [])]
            request.setHeader(b"x-amz-version-id", b"z")
            request.setResponseCode(204)
            return b""

        return self.medium(answer)

    async def test_all_pages(self) -> None:
        """Gone means gone: catches deleted mail of which the versions behind the first page stay for good; and another object's that are looked through for it."""
        pages = {
            "": page("abc", going_on(KEY, "c")),
            "c": page("de", going_on(KEY, "e")),
            "e": page("f", going_on(KEY + "x", "q")),
        }
        medium = self.listing(lambda before: pages[before])
        await deferToThread(medium.delete, "packs/a.pack")
        assert self.removed == list("abcdef")

    async def test_pages_that_lead_nowhere(self) -> None:
        """Catches a list without an end, which keeps a night's purge for ever; and half a list taken for all there is, so that deleted mail stays, unsaid."""
        for more in (going_on(KEY, "c"), "<IsTruncated>true</IsTruncated>", going_on("", "c")):
            medium = self.listing(lambda before, more=more: page("abc", more))  # type: ignore[misc]
            assert "does not say how to go on" in await self.refuses(MediumError, medium.delete, "packs/a.pack")
            assert self.store.asked <= 3
