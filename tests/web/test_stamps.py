"""Authorities, CA certificates and evidence by API and page (A33, A34, L2, rules 14 and 15)."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import TestCase

from hornetmail.archive.proof.tokens import fingerprint
from hornetmail.core.archive.stamps import AUTHORITIES, read_settings
from hornetmail.core.served import Domain, Role
from hornetmail.testing.control import Control
from hornetmail.testing.site import ApiOnControl
from hornetmail.web.api.operations import ApiError, Caller
from tests.web.people import House
from tests.web.test_admin_pages import fill

ROOT = Caller(door="socket", root=True)
URL = "https://stamps.example.test/tsa"


def certificate(name: str, issuer: str = "") -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer or name)]
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=900))
    return builder.sign(key, hashes.SHA256())


CA = certificate("A <root>")
INTERMEDIATE = certificate("between", "A <root>")


def pem(*some: x509.Certificate) -> str:
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in some)


class TestOperations(TestCase):
    async def open(self) -> None:
        control = await Control.open(self)
        self.site = ApiOnControl(control)
        self.directory = control.directory
        self.people: dict[str, Caller] = {"": ROOT}
        await self.directory.add_domain(Domain("example.test"))
        for name, roles in (("alice", ()), ("admin", (Role.ADMIN,)), ("auditor", (Role.AUDITOR,))):
            box = await control.person(f"{name}@example.test", roles=roles)
            self.people[name] = Caller(control.access.person_of(box))

    async def call(self, operation: str, who: str = "admin", **request: Any) -> Any:
        return await self.site.api.call(self.people[who], operation, request)

    async def refused(self, operation: str, who: str = "admin", **request: Any) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.call(operation, who, **request)
        return caught.value

    async def test_certificates_and_authorities(self) -> None:
        """A34: catches a certificate that cannot be installed and selected, an authority without a root, and one that loses its password when it is changed."""
        await self.open()
        added = await self.call("certificate.add", pem=pem(CA, INTERMEDIATE))
        assert added.fingerprints == [fingerprint(CA), fingerprint(INTERMEDIATE)]
        assert (await self.call("certificate.add", pem=pem(CA))).fingerprints == [fingerprint(CA)]
        assert (await self.refused("certificate.add", pem="no certificate")).status == 400
        for url, chosen, words in (
            ("ftp://x/", [fingerprint(CA)], "a URL like"),
            ("https://me:secret@stamps.example.test/", [fingerprint(CA)], "without a log-in"),
            (URL, [], "select at least one"),
            (URL, [fingerprint(INTERMEDIATE)], "select at least one"),
            (URL, ["00" * 32], "is not installed"),
        ):
            assert words in (await self.refused("authority.set", name="one", url=url, certificates=chosen)).text
        assert "name is" in (await self.refused("authority.set", name="One!", url=URL, certificates=[fingerprint(CA)])).text
        plain = {
            "name": "one",
            "url": "http://stamps.example.test/",
            "certificates": [fingerprint(CA)],
            "user": "me",
            "password": "p",
        }
        assert "https only" in (await self.refused("authority.set", **plain)).text
        printed = fingerprint(CA).upper()
        await self.call("authority.set", name="one", url=URL, certificates=[printed], user="me", password="secret")
        await self.call("authority.set", name="two", url=URL, certificates=[fingerprint(CA), fingerprint(INTERMEDIATE)])
        await self.call("authority.set", name="one", url=URL + "2", certificates=[fingerprint(CA)], user="me")
        settings = read_settings(self.directory.setting(AUTHORITIES, ""))
        assert [(one.name, one.url, one.password) for one in settings.authorities] == [
            ("one", URL + "2", "secret"),
            ("two", URL, ""),
        ]
        await self.call("authority.set", name="one", url=URL, certificates=[fingerprint(CA)], user="another")
        assert read_settings(self.directory.setting(AUTHORITIES, "")).authorities[0].password == ""
        await self.call("authority.set", name="two", url=URL, certificates=[fingerprint(CA)], first=True)
        shown = await self.call("stamps.show")
        assert [one.name for one in shown.authorities] == ["two", "one"]
        assert [(one.root, one.used_by) for one in shown.certificates] == [(True, ["two", "one"]), (False, [])]
        assert "selected for two, one" in (await self.refused("certificate.remove", fingerprint=fingerprint(CA))).text
        await self.call("certificate.remove", fingerprint=fingerprint(INTERMEDIATE))
        await self.call("authority.remove", name="two")
        assert (await self.refused("authority.remove", name="two")).status == 404
        assert [one.name for one in (await self.call("stamps.show")).authorities] == ["one"]

    async def test_stamping(self) -> None:
        """A33: catches an error that is not clear, and a state that the status does not show."""
        await self.open()
        error = await self.refused("archive.timestamp")
        assert (error.status, error.code) == (409, "no_stamp_authority")
        await self.call("certificate.add", pem=pem(CA))
        await self.call("authority.set", name="one", url=URL, certificates=[fingerprint(CA)])
        assert (await self.call("archive.timestamp")).stamps == 1
        status = await self.call("status")
        assert (status.archive.stamps.authorities, status.archive.stamps.stamps) == (1, 1)
        await self.call("authority.test", name="one")
        assert (await self.refused("authority.test", name="two")).status == 404
        self.site.stamps.trouble = "one: it answered 500"
        assert (await self.refused("authority.test", name="one")).text == "one: it answered 500"

    async def test_who_may(self) -> None:
        """Rule 15: catches authorities set up, secrets shown or stamps made by people who do not administer; and a password that comes out."""
        await self.open()
        await self.call("certificate.add", pem=pem(CA))
        await self.call("authority.set", name="one", url=URL, certificates=[fingerprint(CA)], user="me", password="secret")
        shown = await self.call("stamps.show")
        assert "secret" not in repr(shown)
        assert shown.authorities[0].password is True
        audited = " ".join(f"{one.subject} {one.detail}" for one in await self.site.rooms.audit.entries())
        assert "secret" not in audited
        assert URL in audited
        for who in ("alice", "auditor"):
            for operation, request in (
                ("stamps.show", {}),
                ("archive.timestamp", {}),
                ("authority.set", {"name": "x", "url": URL, "certificates": []}),
                ("authority.remove", {"name": "one"}),
                ("authority.test", {"name": "one"}),
                ("certificate.add", {"pem": ""}),
                ("certificate.remove", {"fingerprint": ""}),
            ):
                assert (await self.refused(operation, who, **request)).status == 403

    async def test_evidence(self) -> None:
        """L2, rule 15: catches evidence without a right to content, or that is not in the audit log."""
        await self.open()
        self.site.archive.add(1, "x@elsewhere.test", "alice@example.test")
        made = await self.call("archive.evidence", "alice", id="1")
        assert (made.content_type, made.filename) == ("application/zip", "1-evidence.zip")
        assert made.data.startswith(b"evidence of ")
        assert (await self.refused("archive.evidence", "", id="1")).status == 403
        assert (await self.refused("archive.evidence", "admin", id="1")).status == 403
        assert (await self.refused("archive.evidence", "alice", id="2")).status == 404
        assert "archive.evidence" in [one.action for one in await self.site.rooms.audit.entries()]


def test_the_page() -> None:
    """A33, A34: catches a page that does not say that nothing is stamped, loses what was typed, or writes a certificate's name as HTML."""
    house = House()
    admin = house.browser("admin@example.test")
    assert "nothing proves when mail was here" in admin.get("/archive-stamps").text
    assert 'href="/archive-stamps"' in admin.get("/dashboard").text
    assert house.browser("alice@example.test").get("/archive-stamps").status == 403
    typed = {"action": "authority", "name": "one", "url": URL}
    answer = admin.post("/archive-stamps", typed)
    assert answer.status == 400
    assert "select at least one" in answer.text
    assert f'value="{URL}"' in answer.text
    installed = admin.post(
        "/archive-stamps", {"action": "certificate", "pem": ""}, files=[("file", "ca.pem", "x/y", pem(CA).encode())]
    )
    assert installed.status == 303
    page = admin.get("/archive-stamps").text
    assert "The certificate is installed." in page
    assert "A \\&lt;root" in page
    assert admin.post("/archive-stamps", {**typed, "certificate": fingerprint(CA)}).status == 303
    page = admin.get("/archive-stamps").text
    assert URL in page
    assert "not stamped" in page
    admin.post("/archive-stamps", {"action": "test", "name": "one"})
    assert "gave a stamp that counts" in admin.get("/archive-stamps").text
    admin.post("/archive-stamps", {"action": "stamp"})
    assert "is stamped" in admin.get("/archive-stamps").text
    house.stamps.trouble = "one: <no> answer"
    admin.post("/archive-stamps", {"action": "stamp"})
    assert "one: &lt;no&gt; answer" in admin.get("/archive-stamps").text
    admin.post("/archive-stamps", {"action": "forget", "name": fingerprint(CA)})
    assert "selected for one" in admin.get("/archive-stamps").text
    admin.post("/archive-stamps", {"action": "remove", "name": "one"})
    admin.post("/archive-stamps", {"action": "forget", "name": fingerprint(CA)})
    assert read_settings(house.directory.setting(AUTHORITIES, "")).certificates == ()
    assert admin.post("/archive-stamps", {"action": "nonsense"}).status == 303


def test_evidence_from_the_page() -> None:
    """L2: catches a button that does not download, and a refusal that is a bare error page."""
    house = House()
    fill(house, 77, "alice@example.test")
    alice = house.browser("alice@example.test")
    assert "/archive/77/evidence" in alice.get("/archive/77").text
    answer = alice.get("/archive/77/evidence")
    assert answer.header("content-type") == "application/zip"
    assert "77-evidence.zip" in answer.header("content-disposition")
    assert "/archive/77/evidence" not in house.browser("admin@example.test").get("/archive/77").text
