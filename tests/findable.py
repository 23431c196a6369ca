"""Mail as it is found in the world, what a person types to find it, and what must not find it."""

from __future__ import annotations

import base64
import binascii
import quopri
from collections.abc import Iterator

import msgspec

from tests.extraction import samples

HEAD = b"From: Alice <alice@example.test>\r\nTo: bob@example.test\r\nMessage-ID: <%d@example.test>\r\nSubject: %s\r\n"


class Findable(msgspec.Struct, frozen=True):
    """``wanted``: each of these finds the mail; ``unwanted``: none of these does."""

    name: str
    raw: bytes
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...] = ()


def text(data: bytes, label: str | None = None, encoding: str = "8bit", subtype: str = "plain", more: str = "") -> bytes:
    """Header fields and body of a text part."""
    charset = f"; charset={label}" if label is not None else ""
    return (
        f"Content-Type: text/{subtype}{charset}{more}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + data + b"\r\n"
    )


def b64(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def mixed(*parts: bytes, kind: str = "mixed") -> bytes:
    out = b"".join(b"--=_b\r\n" + part + b"\r\n" for part in parts)
    return f'Content-Type: multipart/{kind}; boundary="=_b"\r\n\r\n'.encode() + out + b"--=_b--\r\n"


def attached(data: bytes, kind: str, name: str) -> bytes:
    return (
        f'Content-Type: {kind}\r\nContent-Disposition: attachment; filename="{name}"\r\nContent-Transfer-Encoding: base64\r\n\r\n'.encode()
        + b64(data)
    )


def uuencoded(data: bytes) -> bytes:
    lines = [binascii.b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45)]
    return b"begin 644 notes.txt\n" + b"".join(lines) + b"`\nend\n"


def _charsets() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    german, words = "Die Straßenbahn fährt über die Brücke nach Köln.", ("Straßenbahn", "fährt", "Brücke")
    yield "utf-8 called us-ascii", text(german.encode(), "us-ascii"), words
    yield "utf-8 called iso-8859-1", text(german.encode(), "iso-8859-1"), words
    yield "utf-8 called windows-1252", text(german.encode(), "windows-1252"), words
    yield "utf-8 with no label", text(german.encode()), words
    yield "latin-1 called utf-8", text(german.encode("latin-1"), "utf-8"), words
    yield "latin-1 called us-ascii", text(german.encode("latin-1"), "us-ascii"), words
    yield "latin-1 with no label", text(german.encode("latin-1")), words
    yield "unknown-8bit", text(german.encode("latin-1"), "unknown-8bit"), words
    yield "x-unknown", text(german.encode("latin-1"), "x-unknown"), words
    yield "an empty label", text(german.encode("latin-1"), '""'), words
    yield "cp850", text(german.encode("cp850"), "cp850"), words
    yield "cp437", text(german.encode("cp437"), "cp437"), words
    yield "ibm850", text(german.encode("cp850"), "IBM850"), words
    yield "macintosh", text(german.encode("mac-roman"), "macintosh"), words
    yield "utf-7", text(german.encode("utf-7"), "utf-7"), words
    yield "utf-16", text(b64(german.encode("utf-16")), "utf-16", "base64"), words
    yield "quotes around the label", text(german.encode("latin-1"), "'iso-8859-1'"), words
    turkish, words = "Toplantı yarın öğleden sonra İstanbul'da, şirkette.", ("Toplantı", "öğleden", "şirkette")
    yield "iso-8859-9", text(turkish.encode("iso-8859-9"), "iso-8859-9"), words
    yield "windows-1254 called iso-8859-9", text(turkish.encode("cp1254"), "iso-8859-9"), words
    russian, words = "Счёт за ноябрь оплачен, спасибо за быструю работу.", ("Счёт", "ноябрь", "оплачен")
    for label in ("koi8-r", "windows-1251", "iso-8859-5", "cp866"):
        yield label, text(russian.encode(label), label), words
    yield "windows-1251 with no label", text((russian * 3).encode("cp1251")), words
    yield (
        "koi8-r called iso-8859-1 in HTML that says koi8-r",
        text(
            f'<html><head><meta http-equiv="Content-Type" content="text/html; charset=koi8-r"></head><body>{russian}</body></html>'.encode(
                "koi8-r"
            ),
            "iso-8859-1",
            subtype="html",
        ),
        words,
    )
    yield (
        "windows-1251 in HTML that says so",
        text(
            f'<html><head><meta charset="windows-1251"></head><body><p>{russian}</p></body></html>'.encode("cp1251"),
            subtype="html",
        ),
        words,
    )
    hebrew, words = "הפגישה מחר בבוקר במשרד הראשי", ("הפגישה", "מחר", "במשרד")
    yield "iso-8859-8-i", text(hebrew.encode("iso-8859-8"), "iso-8859-8-i"), words
    yield "windows-1255", text(hebrew.encode("cp1255"), "windows-1255"), words
    greek = "Η συνάντηση είναι αύριο το πρωί"
    yield "iso-8859-7", text(greek.encode("iso-8859-7"), "iso-8859-7"), ("συνάντηση", "αύριο")
    arabic = "الاجتماع غدا صباحا في المكتب"
    yield "windows-1256", text(arabic.encode("cp1256"), "windows-1256"), ("الاجتماع", "المكتب")
    polish = "Spotkanie jest jutro o godzinie ósmej, żółta sala"
    yield "iso-8859-2", text(polish.encode("iso-8859-2"), "iso-8859-2"), ("godzinie", "ósmej", "żółta")
    chinese, words = "明天上午在大会议室开预算会议，请准时参加。", ("会议", "预算", "会议室", "明天上午")
    for label, codec in (("gb2312", "gb2312"), ("gbk", "gbk"), ("gb18030", "gb18030"), ("hz-gb-2312", "hz"), ("x-gbk", "gbk")):
        yield label, text(chinese.encode(codec), label), words
    yield "gb18030 called gb2312", text("邮件内容：会议㐂".encode("gb18030"), "gb2312"), ("邮件", "会议")
    yield "big5", text("明天的會議改到下午".encode("big5"), "big5"), ("會議", "下午")
    yield "big5-hkscs called big5", text("明天的會議喺度".encode("big5hkscs"), "big5"), ("會議", "明天")
    japanese, words = "明日の会議で予算について話します。よろしくお願いします。", ("会議", "予算", "明日の会議", "お願い")
    for label, codec in (
        ("iso-2022-jp", "iso2022_jp"),
        ("shift_jis", "cp932"),
        ("windows-31j", "cp932"),
        ("euc-jp", "euc_jp"),
        ("x-sjis", "cp932"),
        ("cp932", "cp932"),
    ):
        yield label, text(japanese.encode(codec), label), words
    yield "circled figures called shift_jis", text("第①回の会議".encode("cp932"), "shift_jis"), ("会議",)
    korean, words = "내일 오전 회의에서 예산을 이야기합니다", ("회의", "예산", "내일", "오전")
    for label, codec in (("euc-kr", "euc_kr"), ("ks_c_5601-1987", "cp949"), ("iso-2022-kr", "iso2022_kr"), ("cp949", "cp949")):
        yield label, text(korean.encode(codec), label), words
    yield "cp949 called ks_c_5601-1987", text("똠방각하 회의".encode("cp949"), "ks_c_5601-1987"), ("똠방각하", "회의")
    yield "cp949 called euc-kr", text("똠방각하 회의".encode("cp949"), "euc-kr"), ("똠방각하", "회의")


def _transfer() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    said = "Der Schlüssel liegt unter der Fußmatte neben dem Eingang, bitte niemandem verraten.".encode()
    words = ("Schlüssel", "Fußmatte", "verraten")
    whole = base64.b64encode(said)
    yield "base64 without padding", text(whole.rstrip(b"="), "utf-8", "base64"), words
    yield "two base64 runs", text(base64.b64encode(said[:40]) + b"\r\n" + base64.b64encode(said[40:]), "utf-8", "base64"), words
    yield "base64 with blanks", text(b" ".join(whole[at : at + 7] for at in range(0, len(whole), 7)), "utf-8", "base64"), words
    yield "base64 with junk behind it", text(whole + b"\r\n\r\n-- \r\n!!", "utf-8", "base64"), words
    yield "base64 in small letters", text(whole, "utf-8", "base64".title()), words
    yield "base64 with a comment", text(whole, "utf-8", "base64 (sic)"), words
    soft = quopri.encodestring(said).replace(b"\n", b"\r\n")
    yield "quoted-printable", text(soft, "utf-8", "quoted-printable"), words
    yield (
        "blanks behind a soft line end",
        text(b"Der Schl=C3=BCs= \t\r\nsel unter der Fu=C3=9Fma=  \r\ntte verraten", "utf-8", "quoted-printable"),
        words,
    )
    yield "small hex", text(b"Schl=c3=bcssel Fu=c3=9fmatte verraten =zz", "utf-8", "quoted-printable"), words
    yield "soft line ends in LF", text(b"Schl=C3=BCs=\nsel Fu=C3=\n=9Fmatte verraten", "utf-8", "quoted-printable"), words
    yield "an unknown encoding", text(said, "utf-8", "x-none"), words
    yield (
        "uuencode in a text",
        text(b"see this:\r\n" + uuencoded(b"the Quokka sleeps at noon\n")),
        ("Quokka", "filename:notes.txt", "has:attachment"),
    )
    yield (
        "yEnc in a text",
        text(b"file:\r\n=ybegin line=128 size=3 name=holiday.jpg\r\n\x93\x94\r\n=yend size=3\r\n"),
        ("filename:holiday",),
    )
    yield (
        "format=flowed with DelSp",
        text("in die Straßen \r\nbahn steigen".encode(), "utf-8", more="; format=flowed; delsp=yes"),
        ("Straßenbahn",),
    )
    yield "format=flowed", text(b"one long \r\nline", "us-ascii", more="; format=flowed"), ('"long line"',)


def _parts() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    inner = b"From: Zoe Zimmer <zoe@inner.test>\r\nTo: yves@inner.test\r\nSubject: Vertrag Kaninchen\r\n"
    letter = inner + text("Die Möhren sind bestellt".encode(), "utf-8")
    yield "a forwarded mail", mixed(text(b"see below"), b"Content-Type: message/rfc822\r\n\r\n" + letter), (
        "Möhren", "Kaninchen", "zoe@inner.test", "yves", "attachment:Möhren",
    )  # fmt: skip
    yield (
        "a forwarded mail in base64",
        mixed(text(b"see below"), b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(letter)),
        ("Möhren", "Kaninchen", "zoe"),
    )
    yield (
        "a mail as a file",
        mixed(text(b"see below"), attached(letter, "application/octet-stream", "old.eml")),
        ("Möhren", "filename:old.eml"),
    )
    twice = inner + mixed(text(b"x"), b"Content-Type: message/rfc822\r\n\r\n" + letter.replace(b"bestellt", b"Gepard"))
    yield (
        "a mail in a mail",
        mixed(text(b"y"), b"Content-Type: message/rfc822\r\n\r\n" + twice.replace(b"=_b", b"=_c")),
        ("Gepard",),
    )
    yield (
        "an attachment in a forwarded mail",
        mixed(
            text(b"z"),
            b"Content-Type: message/rfc822\r\n\r\n"
            + inner
            + mixed(text(b"q"), attached(b"Eisvogel", "text/plain", "vogel.txt")).replace(b"=_b", b"=_d"),
        ),
        ("Eisvogel", "filename:vogel.txt", "type:txt"),
    )
    yield (
        "a text file",
        mixed(text(b"see file"), attached("Größe;Übersicht".encode(), "text/plain", "liste.txt")),
        ("Übersicht", "liste", "attachment:Größe"),
    )
    yield (
        "a csv file",
        mixed(text(b"see file"), attached("Flamingo;17;Zürich".encode("latin-1"), "text/csv", "a.csv")),
        ("Flamingo", "Zürich", "type:csv"),
    )
    yield (
        "a text called octet-stream",
        mixed(text(b"f"), attached("Nashorn über".encode(), "application/octet-stream", "NOTES.TXT")),
        ("Nashorn", "über"),
    )
    yield "json", mixed(text(b"f"), attached(b'{"animal": "Okapi"}', "application/json", "a.json")), ("Okapi",)
    calendar = (
        "BEGIN:VCALENDAR\r\nSUMMARY:Jahresver\r\n sammlung\r\nLOCATION:Großer Saal\\, Erdgeschoss\r\nEND:VCALENDAR\r\n".encode()
    )
    yield (
        "an invitation",
        mixed(text(b"come"), text(calendar, "utf-8", subtype="calendar"), kind="alternative"),
        ("Jahresversammlung", "Erdgeschoss"),
    )
    yield (
        "an address card",
        mixed(text(b"c"), attached("BEGIN:VCARD\r\nFN:Björn Borgward\r\nEND:VCARD\r\n".encode(), "text/vcard", "b.vcf")),
        ("Borgward",),
    )
    yield (
        "an HTML file",
        mixed(text(b"h"), attached(b"<html><body><p>Kor<b>mo</b>ran</p></body></html>", "text/html", "p.html")),
        ("Kormoran",),
    )
    yield (
        "a report of failure",
        mixed(
            text(b"It failed."),
            b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.far.test\r\n\r\nFinal-Recipient: rfc822; gone@far.test\r\nAction: failed\r\n",
            b"Content-Type: text/rfc822-headers\r\n\r\nSubject: Angebot Pinguin\r\nTo: gone@far.test\r\n",
            kind="report",
        ),
        ("gone@far.test", "Pinguin"),
    )
    yield (
        "plain and HTML that differ",
        mixed(text(b"short"), text(b"<p>only <i>Wombat</i> here</p>", subtype="html"), kind="alternative"),
        ("Wombat", "short"),
    )
    yield (
        "a text after an attachment",
        mixed(text(b"one"), attached(b"x", "image/png", "x.png"), text(b"Faultier")),
        ("Faultier", "type:png"),
    )
    yield (
        "an attachment's name in RFC 2231",
        mixed(
            text(b"n"), b"Content-Type: application/pdf; name*0*=utf-8'de'Rechnung%20f%C3%BCr; name*1*=%20M%C3%A4rz.pdf\r\n\r\nx"
        ),
        ("filename:März", "Rechnung", "type:pdf"),
    )
    yield (
        "an attachment's name in an encoded word",
        mixed(text(b"n"), b'Content-Type: application/pdf; name="=?utf-8?Q?Gesch=C3=A4ftsbericht=2Epdf?="\r\n\r\nx'),
        ("Geschäftsbericht", "type:pdf"),
    )
    yield "no last boundary", mixed(text(b"a"), text(b"Erdmaennchen")).replace(b"--=_b--\r\n", b""), ("Erdmaennchen",)
    yield "no boundary at all", b"Content-Type: multipart/mixed\r\n\r\nSeepferdchen\r\n", ("Seepferdchen",)
    yield "a type that cannot be read", b"Content-Type: text\r\n\r\nBuntspecht\r\n", ("Buntspecht",)


def _html() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    style = b"<style>" + b".a{color:red}\n" * 60_000 + b"</style>"
    yield (
        "840 KB of style first",
        text(b"<html><head>" + style + b"</head><body><p>Dachsbau</p></body></html>", "utf-8", subtype="html"),
        ("Dachsbau",),
    )
    image = b'<img src="data:image/png;base64,' + b"QUJD" * 250_000 + b'">'
    yield (
        "a megabyte of image first",
        text(b"<body>" + image + b"<p>Siebenschl\xc3\xa4fer</p>", "utf-8", subtype="html"),
        ("Siebenschläfer",),
    )
    yield (
        "a comment of 700 KB first",
        text(b"<!--" + b"x " * 350_000 + b"--><p>Ringelnatter</p>", "utf-8", subtype="html"),
        ("Ringelnatter",),
    )
    yield "words across markup", text(b"<p>Ma<b>r</b>der</p><p>zwei</p>", "utf-8", subtype="html"), ("Marder", "zwei")
    yield (
        "entities",
        text(b"<p>M&uuml;ckensch&#252;tzer &amp; S&#xF6;hne</p>", "us-ascii", subtype="html"),
        ("Mückenschützer", "Söhne"),
    )
    yield "a link's target", text(b'<a href="https://shop.far.test/angebote/winter?utm=x&amp;id=1">hier</a>', "utf-8", subtype="html"), (
        "shop.far.test", "angebote", "https://shop.far.test/angebote/winter?utm=y", "winter",
    )  # fmt: skip
    yield (
        "what an image is of",
        text(b'<img src="cid:1" alt="Organigramm der Gruppe">', "utf-8", subtype="html"),
        ("Organigramm",),
    )
    yield "text beyond 256 K characters", text(b"lorem ipsum dolor\r\n" * 20_000 + b"Wiedehopf", "us-ascii"), ("Wiedehopf",)
    yield (
        "HTML called plain",
        text(b"<html><body><p>Zaunk&ouml;nig</p></body></html>", "us-ascii", subtype="html"),
        ("Zaunkönig",),
    )


def _words() -> Iterator[tuple[str, bytes, tuple[str, ...], tuple[str, ...]]]:
    yield "umlauts", text("Herr Müller aus Köln grüßt Frau Groß".encode(), "utf-8"), (
        "Müller", "muller", "Mueller", "MÜLLER", "Mu\u0308ller", "Koeln", "gruesst", "Gross", "Groß", "GROSS", "Mue*", "Mü*", '"Herr Mueller"',
    ), ("Mülle", "Gros")  # fmt: skip
    yield (
        "umlauts spelt out",
        text(b"Herr Mueller aus Koeln gruesst Frau Gross"),
        ("Müller", "Mueller", "Köln", "grüßt", "Groß"),
        (),
    )
    yield "decomposed letters", text("Mu\u0308ller Stra\u00dfe".encode(), "utf-8"), ("Müller", "Mueller", "Strasse"), ()
    yield (
        "Danish",
        text("Søren bor på Ærø i Århus".encode(), "utf-8"),
        ("Søren", "Soren", "Soeren", "Ærø", "Aeroe", "Århus", "Aarhus"),
        (),
    )
    yield "a soft hyphen", text("Donau\u00addampf\u00adschiff".encode(), "utf-8"), ("Donaudampfschiff",), ()
    yield "zero-width signs", text("Ge\u200bheim\u200dnis\ufeffse".encode(), "utf-8"), ("Geheimnisse",), ()
    yield "full-width forms", text("ＡＢＣ－１２３４ 株式会社".encode(), "utf-8"), ("ABC", "1234", "会社", "株式会社"), ()
    yield "half-width kana", text("ﾃｽﾄﾒｰﾙです".encode(), "utf-8"), ("テスト", "テストメール"), ()
    yield "a ligature", text("die ﬁnale Oﬀerte".encode(), "utf-8"), ("finale", "Offerte"), ()
    yield (
        "CJK among others",
        text("2026年度の予算案（v2）を添付".encode(), "utf-8"),
        ("予算", "年度", "2026", "v2", "予算案", "案", '"2026年度"'),
        ("算予",),
    )
    yield "a number", text(b"Rechnung 2026-11-0042, Kunde 4711/08, IBAN DE89 3704 0044 0532 0130 00"), (
        "2026-11-0042", "0042", "4711", "4711/08", '"DE89 3704"',
    ), ("2026-0042",)  # fmt: skip
    yield (
        "an address in the text",
        text(b"write to bob.builder@sub.example.org please"),
        ("bob", "bob.builder", "@sub.example.org", "example.org", "example"),
        (),
    )
    yield "marks", text(b"C++ and node.js, foo_bar, it's 50% off: AT&T"), ("node.js", "foo_bar", "foo", "it's", "AT&T", "50%"), ()
    yield "Turkish dots", text("ISPARTA ılık İzmir".encode(), "utf-8"), ("isparta", "ılık", "izmir"), ()
    yield "Polish", text("Łódź i Wrocław".encode(), "utf-8"), ("Łódź", "lodz", "Wroclaw"), ()
    yield "emoji", text("Party 🎉 morgen".encode(), "utf-8"), ("Party", "morgen"), ()


def _headers() -> Iterator[tuple[str, bytes, tuple[str, ...], tuple[str, ...]]]:
    body = b"\r\nhello\r\n"
    start = b"From: a@x.test\r\nTo: b@x.test\r\n"
    yield (
        "a subject that is pasted",
        start + "Subject: AW: Re: Angebot Nr. 17/2026 (Kopie): Gehäuse \u2013 20 % Rabatt!".encode() + body,
        (
            "AW: Re: Angebot Nr. 17/2026 (Kopie): Gehäuse \u2013 20 % Rabatt!",
            "Re: Angebot Nr. 17/2026",
            "WG: AW: Gehaeuse OR niemals",
            "niemals OU Gehäuse",
            "niemals O Gehäuse",
            "betreff: Gehäuse",
            "objet:gehause",
            "asunto:gehäuse",
        ),
        ("Angebot Nr. 18/2026", "niemals Y Gehäuse"),
    )
    yield (
        "an address of a page that is pasted",
        start + b"Subject: s\r\n\r\nsee https://wiki.far.test/space/Urlaubsantrag_2026?id=7#top\r\n",
        ("https://wiki.far.test/space/Urlaubsantrag_2026", "wiki.far.test/space", "Urlaubsantrag"),
        ("https://wiki.far.test/space/Urlaubsantrag_2027",),
    )
    yield (
        "a file's name in pieces",
        start
        + b"Subject: s\r\n"
        + mixed(text(b"n"), attached(b"x", "application/octet-stream", "Angebot_Meier-2026.v2_final.xyz")),
        (
            "filename:Meier",
            "filename:final",
            "filename:Angebot_Meier-2026.v2_final.xyz",
            "filename:Ange*",
            "type:xyz",
            "datei:meier",
        ),
        ("filename:Mei", "type:v2"),
    )
    yield (
        "a second To",
        start + b"To: Dritte <dritte@y.test>\r\nSubject: s" + body,
        ("to:dritte@y.test", "dritte"),
        ("from:dritte",),
    )
    yield "a second From", start + b"From: Vierte <vierte@y.test>\r\nSubject: s" + body, ("from:vierte",), ("to:vierte",)
    yield "a second Subject", start + b"Subject: s\r\nSubject: Zweitthema" + body, ("Zweitthema",), ()
    yield "Reply-To", start + b"Reply-To: answers@far.test\r\nSubject: s" + body, ("answers@far.test",), ("to:answers",)
    yield "Sender", start + b"Sender: office@far.test\r\nSubject: s" + body, ("from:office@far.test",), ()
    yield (
        "List-Id",
        start + b"List-Id: Gardeners <gardeners.lists.test>\r\nSubject: s" + body,
        ("list:gardeners", "gardeners.lists.test"),
        ("from:gardeners",),
    )
    yield (
        "Resent",
        start + b"Resent-From: rf@y.test\r\nResent-To: rt@y.test\r\nSubject: s" + body,
        ("from:rf", "to:rt"),
        ("to:rf",),
    )
    yield (
        "References",
        start + b"References: <old.one@z.test> <old.two@z.test>\r\nSubject: s" + body,
        ("id:old.two@z.test", "old.one@z.test"),
        (),
    )
    yield (
        "Message-ID",
        start + b"Message-ID: <CA+xyz-99@mail.z.test>\r\nSubject: s" + body,
        ("id:<CA+xyz-99@mail.z.test>", "CA+xyz-99@mail.z.test"),
        (),
    )
    yield (
        "Cc",
        start + b"Cc: Copied Person <cp@y.test>\r\nSubject: s" + body,
        ("cc:cp", "to:cp", "copied"),
        ("from:cp", "cc:b@x.test"),
    )
    yield "Bcc", start + b"Bcc: secret@y.test\r\nSubject: s" + body, ("bcc:secret", "to:secret", "secret"), ("cc:secret",)
    yield "raw 8-bit", start + "Subject: Größenänderung".encode("latin-1") + body, ("Größenänderung",), ()
    yield "raw UTF-8", start + "Subject: Größenänderung".encode() + body, ("subject:Größenänderung",), ()
    yield (
        "raw koi8-r",
        start + "Subject: Договор подряда\r\nContent-Type: text/plain; charset=koi8-r\r\n".encode("koi8-r") + body,
        ("Договор",),
        (),
    )
    yield "a word split in a character", start + b"Subject: =?utf-8?B?R3LD?= =?utf-8?B?vMOfZQ==?=" + body, ("Grüße",), ()
    yield "Q and B in one character", start + b"Subject: =?utf-8?Q?Gr=C3?= =?utf-8?B?vMOfZQ==?=" + body, ("Grüße",), ()
    yield (
        "blanks in an encoded word",
        start + b"Subject: =?utf-8?Q?Neue Gr=C3=BCnfl=C3=A4che?=" + body,
        ("Grünfläche", '"neue Grünfläche"'),
        (),
    )
    yield "a language tag", start + b"Subject: =?utf-8*de?Q?Gl=C3=BChwein?=" + body, ("Glühwein",), ()
    yield "windows-1251 in an encoded word", start + b"Subject: =?windows-1251?B?xO7j7uLu8A==?=" + body, ("Договор",), ()
    yield "a wrong label in an encoded word", start + b"Subject: =?us-ascii?Q?Gr=C3=BC=C3=9Fe?=" + body, ("Grüße",), ()
    yield (
        "a name in quotes",
        b'From: "M\xc3\xbcller, Hans" <hm@x.test>\r\nSubject: s' + body,
        ("from:Müller", "from:Mueller", '"Müller, Hans"'),
        (),
    )
    yield (
        "an encoded name",
        b"From: =?iso-8859-1?Q?J=F6rg_Sch=F6n?= <js@x.test>\r\nSubject: s" + body,
        ("Jörg", "Schoen", "from:js@x.test"),
        (),
    )
    yield (
        "a folded subject",
        start + b"Subject: eine lange\r\n Betreffzeile\r\n\tnoch mehr" + body,
        ('"lange Betreffzeile noch"',),
        (),
    )
    yield "no header at all", b"\r\nPapageientaucher\r\n", ("Papageientaucher",), ()
    many = b", ".join(b"user%04d@many.test" % n for n in range(6_000))
    yield (
        "6,000 addresses",
        b"From: a@x.test\r\nTo: " + many + b"\r\nSubject: s" + body,
        ("to:user0001@many.test", "to:user5999@many.test"),
        (),
    )
    yield "a group", b"From: a@x.test\r\nTo: Freunde: f1@y.test, f2@y.test;\r\nSubject: s" + body, ("to:f2@y.test",), ()
    yield (
        "a line of an mbox",
        b"From x@y Mon Jan 1 00:00:00 2026\r\n" + start + b"Subject: Bartgeier" + body,
        ("subject:Bartgeier", "from:a@x.test"),
        (),
    )


def _files() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    """Real ones, made by LibreOffice (``tests/extraction``)."""
    for name, words in samples.MADE.items():
        kind = name.rpartition(".")[2]
        yield (
            f"words of .{kind}",
            mixed(text(b"see file"), attached(samples.made(name), f"application/x-{kind}", name)),
            (*words, f"attachment:{words[0]}", f"type:{kind}"),
        )
    packed = samples.zipped(("Ordner/text.odt", samples.made("text.odt")), ("table.xls", samples.made("table.xls")))
    yield (
        "files in a zip",
        mixed(text(b"z"), attached(packed, "application/zip", "alles.zip")),
        ("Nußbaumbretter", "Murmeltier", "Ordner"),
    )
    yield (
        "a zip in a tar called nothing",
        mixed(text(b"z"), attached(samples.tarred(("alles.zip", packed), packed=True), "application/octet-stream", "backup.tgz")),
        ("Nußbaumbretter", "Überweisung"),
    )
    yield (
        "winmail.dat",
        mixed(
            text(b"w"),
            attached(
                samples.tnef("Betreff", rb"{\rtf1 Stra\'dfe {\b Ma}rder}", ("t.docx", samples.made("text.docx"))),
                "application/ms-tnef",
                "winmail.dat",
            ),
        ),
        ("Straße", "Marder", "Hobelbank"),
    )
    yield (
        "a PDF in a forwarded mail in base64",
        mixed(
            text(b"f"),
            b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + b64(b"Subject: inner\r\n" + mixed(text(b"q"), attached(samples.made("text.pdf"), "application/pdf", "p.pdf"))),
        ),
        ("Schnabeltier", "filename:p.pdf"),
    )
    yield (
        "a PDF called a picture",
        mixed(text(b"f"), attached(samples.made("text.pdf"), "image/jpeg", "scan.jpg")),
        ("Schnabeltier", "Счёт"),
    )


def of_bytes() -> list[Findable]:
    """Those in which only charset and transfer encoding stand between the bytes and the words."""
    made = [Findable(name, HEAD % (7, b"s") + raw, wanted) for group in (_charsets, _transfer) for name, raw, wanted in group()]
    plain = [msgspec.structs.replace(one, wanted=tuple(w for w in one.wanted if ":" not in w and '"' not in w)) for one in made]
    return [one for one in plain if one.wanted and not one.name.startswith(("format=flowed", "uuencode", "yEnc"))]


def table() -> list[Findable]:
    """All of them; each has something of its own, so that it is found alone where a test wants that."""
    made: list[Findable] = []
    for group in (_charsets, _transfer, _parts, _html, _files):
        made += (Findable(name, HEAD % (len(made), b"s") + raw, wanted) for name, raw, wanted in group())
    made += (Findable(name, HEAD % (1000, b"s") + raw, wanted, unwanted) for name, raw, wanted, unwanted in _words())
    made += (Findable(name, raw, wanted, unwanted) for name, raw, wanted, unwanted in _headers())
    return made
