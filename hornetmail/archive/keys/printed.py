"""A key paper as a page that prints well (L12): an HTML document of its own, a sheet for each paper, with its text and a QR code of it.

It asks for nothing from anywhere and runs no script. The codes hold text that can be read in like what was typed (``paper.papers``), in error
level M or better: a seventh of one may be stained.
"""

from __future__ import annotations

from html import escape

import segno

from hornetmail.archive.keys.paper import papers

_STYLE = """
@page { margin: 16mm; }
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 178mm; padding: 4mm; font: 11pt/1.45 "DejaVu Sans", Arial, sans-serif; color: #000; background: #fff; }
section { break-after: page; padding-bottom: 8mm; }
section:last-child { break-after: auto; }
h1 { font-size: 15pt; margin: 0 0 3mm; }
pre { font: 11.5pt/1.4 "DejaVu Sans Mono", "Liberation Mono", monospace; margin: 4mm 0; white-space: pre-wrap; }
svg { width: 68mm; height: 68mm; display: block; }
p { margin: 0 0 2mm; }
dl { margin: 4mm 0 0; }
dt { font-size: 9pt; }
dd { margin: 0 0 4mm; border-bottom: 0.3mm solid #000; height: 7mm; }
@media print { body { padding: 0; } section { padding: 0; } }
"""


def document(text: str) -> str:
    """The page for a text that ``paper.backup`` made. Takes about 50 ms of CPU a paper: in a thread. Raises KeyTrouble: it is no such text."""
    sheets = "".join(_sheet(paper, code) for paper, code in papers(text))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>HornetMail archive key</title><style>{_STYLE}</style></head>\n<body>{sheets}</body></html>\n"
    )


def _sheet(paper: str, code: str) -> str:
    above, begin, rest = paper.partition("-----BEGIN")
    title, *lines = above.splitlines()
    image = segno.make(code, error="m", micro=False).svg_inline(border=4, omitsize=True, svgclass=None, lineclass=None)
    return (
        f"<section><h1>{escape(title)}</h1>"
        + "".join(f"<p>{escape(line)}</p>" for line in lines)
        + f"<pre>{escape(begin + rest)}</pre>\n{image}\n<p>The code holds the same text.</p>"
        "<dl><dt>Kept by</dt><dd></dd><dt>Where the password is (never the password itself)</dt><dd></dd></dl></section>\n"
    )
