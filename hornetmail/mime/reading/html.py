"""HTML of mail as the words that a reader would see, and as those that stand behind them: link targets, descriptions of images.

Never raises. In time proportional to the length (``tests/cost/test_mime.py``): what makes parsers slow is taken out before one sees it.
"""

from __future__ import annotations

import html as entities
import re
from itertools import islice

from selectolax.lexbor import LexborHTMLParser

MAX_HTML = 4 << 20
"""Characters that are parsed, without styles, scripts, comments and what ``data:`` addresses hold."""

LINKS = 500
"""Link targets of one mail that are looked at."""

MARKED = 64 << 10
"""Shorter HTML goes to the parser as it is."""

_SILENT = ["script", "style", "template", "noscript", "head", "svg", "object", "iframe"]
_BREAKS = re.compile(
    r"<(?:br|/?p|/?div|/?tr|/?li|/?h[1-6]|/?table|/?blockquote|hr|/?pre|/?ul|/?ol)\b[^<>]{0,512}>", re.IGNORECASE
)
_GAPS = re.compile(r"<(?:/?td|/?th|/?option|/?dt|/?dd|/?section|/?article|/?title|img|input)\b[^<>]{0,512}>", re.IGNORECASE)
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]{0,20})")
_DEEP = 5000
_MARK = "\ufdd0"
_OPENS = re.compile(r"<(style|script|!--)", re.IGNORECASE)
_CLOSES = {
    "style": re.compile(r"</style[^>]{0,100}>", re.IGNORECASE),
    "script": re.compile(r"</script[^>]{0,100}>", re.IGNORECASE),
    "!--": re.compile(r"-->"),
}
_DATA = re.compile(r"data:[A-Za-z0-9/+.;=-]{0,100},[A-Za-z0-9+/=%\s]{100,}+")
_WHOLE_TAG = re.compile(r"<([A-Za-z][A-Za-z0-9]{0,20})\s(?:[^<>\"']++|\"[^\"]*+\"|'[^']*+')*+>?")
_LONG_TAG = 4_096
_MANY_VALUES = 2_000
"""The parser compares each attribute of a tag with all the others; so many take it no time yet."""
_BEHIND = re.compile(
    r"[hHaAtT](?<=\b.)(?:(?<=[hH])[rR][eE][fF]\s{0,5}=\s{0,5}[\"']?([hH][tT][tT][pP][sS]?:[^\"'\s<>]{1,2000})"
    r"|(?:(?<=[aA])[lL][tT]|(?<=[tT])[iI][tT][lL][eE])\s{0,5}=\s{0,5}(?:\"([^\"<>]{1,500})\"|'([^'<>]{1,500})'))"
)
"""Begins with a set of letters, so that others are passed over fast; ``IGNORECASE`` would have it try at each."""


def html_to_text(html: str, *, lines: bool = False) -> str:
    """What a reader would see, scripts and styles left out; ``lines``: with line breaks. Bounded by ``MAX_HTML``."""
    html = bared(html)[:MAX_HTML]
    if lines:
        html = " ".join(html.split())
    html = _GAPS.sub(r"\g<0> ", _BREAKS.sub(rf"\g<0>{_MARK}", html))
    if html.count("<") > _DEEP and _depth(html) > _DEEP:
        return _crude(html, lines)
    try:
        tree = LexborHTMLParser(html)
        tree.strip_tags(_SILENT)
        text = tree.body.text(separator="") if tree.body is not None else ""
    except Exception:  # noqa: BLE001  a foreign parser; raw words are better than none
        return _crude(html, lines)
    return _laid_out(text, lines)


def behind(html: str) -> tuple[list[str], list[str]]:
    """Link targets, each once, and descriptions of images and links."""
    links: dict[str, None] = {}
    said: dict[str, None] = {}
    for found in islice(_BEHIND.finditer(html), 4 * LINKS):
        if found[1]:
            if len(links) < LINKS:
                links[entities.unescape(found[1])] = None
        else:
            said[" ".join(entities.unescape(found[2] or found[3]).split())] = None
    return list(links), list(said)


def bared(html: str) -> str:
    """Without what nobody reads and may be megabytes."""
    if html.count("=") > _MANY_VALUES or html.count(" ") > 10 * _MANY_VALUES:
        html = _WHOLE_TAG.sub(lambda tag: tag[0] if len(tag[0]) < _LONG_TAG else f"<{tag[1]}>", html)
    if len(html) <= MARKED:
        return html
    if "data:" in html:
        html = _DATA.sub("data:", html)
    kept: list[str] = []
    at = 0
    closed: set[str] = set()
    while (opens := _OPENS.search(html, at)) is not None:
        name = opens[1].lower()
        ends = None if name in closed else _CLOSES[name].search(html, opens.end())
        if ends is None:
            # It has no end any more: what follows is shown rather than lost.
            closed.add(name)
            kept.append(html[at : opens.end()])
            at = opens.end()
            continue
        kept.append(html[at : opens.start()])
        at = ends.end()
    return "".join([*kept, html[at:]])


def _depth(html: str) -> int:
    """About how deep the elements nest. The parser's time grows with the square of that."""
    depth = deepest = 0
    counts: dict[str, int] = {}
    for found in _TAG.finditer(html):
        name = found.group(2).lower()
        if not found.group(1):
            counts[name] = counts.get(name, 0) + 1
            depth += 1
            deepest = max(deepest, depth)
        elif counts.get(name, 0):
            counts[name] -= 1
            depth -= 1
    return deepest


def _crude(html: str, lines: bool) -> str:
    """Without a parser: all but the tags."""
    return _laid_out(re.sub(r"<[^<>]{0,2000}>", " ", html), lines)


def _laid_out(text: str, lines: bool) -> str:
    if lines:
        broken = re.sub(rf"(?:{_MARK}\s*){{2,}}", "\n", text).replace(_MARK, "\n")
        return "\n".join(" ".join(line.split()) for line in broken.split("\n"))
    return " ".join(text.replace(_MARK, " ").split())
