"""Makes the files of ``files/`` anew with LibreOffice: ``python -m tests.extraction.make_files``. They lie in the repository, because installing LibreOffice takes longer than all tests of this room
(Debian: libreoffice-writer-nogui, libreoffice-calc-nogui, libreoffice-impress-nogui)."""

from __future__ import annotations

import gzip
import json
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent / "files"

TEXT = """<html><head><meta charset="utf-8"><title>Protokoll Eisvogel</title></head><body>
<h1>Jahresabschluß der Schreinerei</h1><p>Die Lieferung der Nußbaumbretter erfolgt über Köln am Donnerstag.</p>
<table border="1"><tr><td>Posten</td><td>Betrag</td></tr><tr><td>Hobelbank</td><td>4711,50</td></tr></table>
<p>Счёт за ноябрь оплачен. 明天上午在大会议室开预算会议。</p><p>Zweiter Absatz mit Schnabeltier.</p></body></html>"""

TABLE = "Artikel,Nummer,Preis\nMurmeltier,2026110042,12.5\nÜberweisung,17,3\n"

SLIDES = """<?xml version="1.0" encoding="UTF-8"?>
<office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0"
 office:version="1.2" office:mimetype="application/vnd.oasis.opendocument.presentation"><office:body><office:presentation>
<draw:page draw:name="eins"><draw:frame svg:width="20cm" svg:height="5cm" svg:x="1cm" svg:y="1cm"><draw:text-box><text:p>Quartalszahlen der Größenordnung</text:p>
<text:p>Gürteltier und Nashorn</text:p></draw:text-box></draw:frame></draw:page>
<draw:page draw:name="zwei"><draw:frame svg:width="20cm" svg:height="5cm" svg:x="1cm" svg:y="1cm"><draw:text-box><text:p>Ausblick Wiedehopf 会議</text:p>
</draw:text-box></draw:frame></draw:page></office:presentation></office:body></office:document>"""


def main() -> None:
    """All of them."""
    HERE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        (home / "text.html").write_text(TEXT, "utf-8")
        (home / "table.csv").write_text(TABLE, "utf-8")
        (home / "slides.fodp").write_text(SLIDES, "utf-8")
        made = HERE
        _convert(home, "text.html", "odt", made, "HTML (StarWriter)")
        for kind in ("docx", "doc", "rtf", "pdf", "epub"):
            _convert(home, str(made / "text.odt"), kind, made)
        sealed = {name: {"type": kind, "value": value} for name, kind, value in (
            ("EncryptFile", "boolean", "true"), ("DocumentOpenPassword", "string", "geheim"))}  # fmt: skip
        (home / "sealed.odt").write_bytes((made / "text.odt").read_bytes())
        _convert(home, "sealed.odt", f"pdf:writer_pdf_Export:{json.dumps(sealed)}", made)
        for kind in ("xlsx", "xls", "ods"):
            _convert(home, "table.csv", kind, made, "CSV:44,34,76,1")
        for kind in ("odp", "pptx", "ppt"):
            _convert(home, "slides.fodp", kind, made)
        # Half a megabyte of nothing but masters.
        (made / "slides.ppt.gz").write_bytes(gzip.compress((made / "slides.ppt").read_bytes(), mtime=0))
        (made / "slides.ppt").unlink()


def _convert(home: Path, source: str, kind: str, into: Path, reader: str = "") -> None:
    command = [
        "soffice",
        "--headless",
        f"-env:UserInstallation=file://{home}/profile",
        "--convert-to",
        kind,
        "--outdir",
        str(into),
    ]
    command += [f"--infilter={reader}"] if reader else []
    subprocess.run([*command, source], cwd=home, check=True, timeout=120)


if __name__ == "__main__":
    main()
