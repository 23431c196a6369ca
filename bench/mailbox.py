"""Mail as it lies in real mailboxes, made from a seed: conversations with quotes, newsletters, notifications, and attachments, some of which come again and again.

Of a hundred mails about 55 are text, 25 HTML with its plain half, 20 have attachments: office files and PDFs with text, pictures (noise), tables. Three attachments in ten were sent before. A mail has 35 KB on average, half of them less than 6.
"""

from __future__ import annotations

import base64
import io
import random
import zipfile
import zlib
from collections.abc import Callable, Iterator

from bench.search import vocabulary

Draw = Callable[[int], str]
PEOPLE = 200
AGAIN = 0.3
MEMORY = 50
"""Attachments that may come again."""


def mails(count: int, seed: int = 1) -> Iterator[bytes]:
    """So many, the same for the same seed."""
    chance = random.Random(seed)
    box = _Box(chance, vocabulary(chance))
    for number in range(count):
        yield box.mail(number)


class _Box:
    def __init__(self, chance: random.Random, draw: Draw) -> None:
        self._chance = chance
        self._draw = draw
        self._before: list[tuple[str, str, bytes]] = []
        self._subjects: list[str] = ["Hello"]

    def mail(self, number: int) -> bytes:
        """One of them."""
        chance = self._chance
        kind = chance.random()
        if chance.random() < 0.5:
            subject = f"Re: {chance.choice(self._subjects[-50:])}"
        else:
            subject = self._draw(chance.randint(2, 7))
            self._subjects.append(subject)
        head = (
            f"Received: from mx{chance.randrange(9)}.far.test by mail.example.test; Mon, {chance.randint(1, 28)} May 2026 10:00:00 +0000\r\n"
            f"From: Person {chance.randrange(PEOPLE)} <person{chance.randrange(PEOPLE)}@far.test>\r\nTo: person{chance.randrange(PEOPLE)}@example.test\r\n"
            f"Subject: {subject}\r\nDate: Mon, {chance.randint(1, 28)} May 2026 {chance.randrange(24):02}:00:00 +0000\r\n"
            f"Message-ID: <{number}.{chance.randrange(1 << 40):x}@far.test>\r\nMIME-Version: 1.0\r\n"
        )
        if kind < 0.55:
            return (head + _part("text/plain", self._said())).encode()
        if kind < 0.8:
            return (head + self._newsletter()).encode()
        files = [self._attachment() for _ in range(1 + (chance.random() < 0.2))]
        bodies = [_part("text/plain", self._said()), *(_file(*one) for one in files)]
        return (head + _multipart("mixed", bodies)).encode()

    def _said(self) -> str:
        chance = self._chance
        lines = [self._draw(chance.randint(4, 12)) for _ in range(chance.randint(2, 30))]
        if chance.random() < 0.5:
            lines += [f"> {self._draw(10)}" for _ in range(chance.randint(5, 60))]
        return "\r\n".join([*lines, "-- ", f"Person, +49 {chance.randrange(10**9)}", ""])

    def _newsletter(self) -> str:
        chance = self._chance
        words = [self._draw(chance.randint(10, 60)) for _ in range(chance.randint(5, 40))]
        style = "".join(f".c{n} {{ color: #{chance.randrange(1 << 24):06x}; padding: {n}px }}\r\n" for n in range(60))
        rows = "".join(
            f'<tr><td class="c{n % 60}" style="font-family: sans-serif"><a href="https://shop.far.test/{chance.randrange(10**9)}?utm={n}">{text}</a></td></tr>\r\n'
            for n, text in enumerate(words)
        )
        page = f"<html><head><style>{style}</style></head><body><table>{rows}</table></body></html>\r\n"
        return _multipart("alternative", [_part("text/plain", "\r\n".join(words) + "\r\n"), _part("text/html", page)])

    def _attachment(self) -> tuple[str, str, bytes]:
        chance = self._chance
        if self._before and chance.random() < AGAIN:
            return chance.choice(self._before)
        number, text = chance.randrange(10**6), [self._draw(60) for _ in range(int(min(400, chance.lognormvariate(3, 1))))]
        size = int(min(2e6, chance.lognormvariate(11, 1)))
        made = chance.choice(
            (
                ("pdf", "application/pdf", lambda: _pdf(text, chance)),
                ("docx", "application/octet-stream", lambda: _docx(text, chance)),
                ("jpg", "image/jpeg", lambda: b"\xff\xd8\xff\xe0" + chance.randbytes(size)),
                ("csv", "text/csv", lambda: "\r\n".join(text).replace(" ", ";").encode()),
            )
        )
        found = (f"file{number}.{made[0]}", made[1], made[2]())
        self._before = [*self._before[-MEMORY + 1 :], found]
        return found


def _docx(text: list[str], chance: random.Random) -> bytes:
    body = "".join(f'<w:p><w:pPr><w:pStyle w:val="Normal"/></w:pPr><w:r><w:t>{line}</w:t></w:r></w:p>' for line in text)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in (
            ("[Content_Types].xml", b"<Types/>"),
            ("word/document.xml", f'<w:document xmlns:w="w"><w:body>{body}</w:body></w:document>'.encode()),
            ("word/media/image1.png", chance.randbytes(20_000)),
        ):
            file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _pdf(text: list[str], chance: random.Random) -> bytes:
    """A page of text for each paragraph, and a font that nobody can pack."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    pages = []
    for line in text:
        drawn = zlib.compress(f"BT /F1 9 Tf 40 800 Td ({line}) Tj ET".encode())
        objects.append(b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(drawn), drawn))
        pages.append(len(objects) + 1)
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>" % len(objects)
        )
    noise = chance.randbytes(15_000)
    objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(noise), noise))
    objects[1] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(pages), b" ".join(b"%d 0 R" % n for n in pages))
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(out) + b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1, table, len(objects) + 1, len(out),
    )  # fmt: skip


def _part(kind: str, text: str) -> str:
    return f"Content-Type: {kind}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}"


def _file(name: str, kind: str, data: bytes) -> str:
    lines = base64.encodebytes(data).decode().replace("\n", "\r\n")
    return f'Content-Type: {kind}\r\nContent-Disposition: attachment; filename="{name}"\r\nContent-Transfer-Encoding: base64\r\n\r\n{lines}'


def _multipart(kind: str, parts: list[str]) -> str:
    body = "".join(f"--=_b\r\n{part}\r\n" for part in parts)
    return f'Content-Type: multipart/{kind}; boundary="=_b"\r\n\r\n{body}--=_b--\r\n'
