"""A search within somebody's rights as an expression of FTS5 (rules 14, 15): the rights are part of it, so that hits, counts and pages agree.

Words can never reach the ``rights`` column: every term of a query is bound to the columns it may look into.
"""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.archive.index.query.language import All, Marked, Node, Not, Query, Words, tokens
from hornetmail.archive.index.schema.fulltext import FORMS
from hornetmail.archive.index.schema.tokens import (
    ANY,
    ATTACHMENT,
    SIZES,
    SPAM,
    direction_token,
    right_token,
    size_token,
    type_token,
)
from hornetmail.core.archive.archived import QueryError
from hornetmail.core.archive.words import sought
from hornetmail.core.mail.address import domain_of, key_of
from hornetmail.core.mail.envelope import Direction
from hornetmail.core.served import Scope


def quoted(text: str, *, prefix: bool = False) -> str:
    """A phrase of FTS5 that means just these words."""
    return '"' + text.replace('"', '""') + '"' + (" *" if prefix else "")


def _any(found: Sequence[str]) -> str:
    return f"rights : ({' OR '.join(quoted(token) for token in found)})"


def rights_expression(scope: Scope, ways: str = "sro") -> str | None:
    """What restricts a search to a scope; None if the scope sees nothing. ``ways``: of the own mail what one sent, received, or owns (``right_token``)."""
    terms = []
    if scope.tenant:
        terms.append(_any([right_token("t", str(scope.tenant))]))
    if scope.addresses is not None:
        if not scope.addresses:
            return None
        terms.append(_any([right_token(letter, key) for key in sorted(scope.addresses) for letter in ways]))
    return " AND ".join(f"({term})" for term in terms) if terms else _any([ANY])


def expression(scope: Scope, query: Query, form: int, ways: str = "sro") -> str | None:
    """The whole FTS5 expression of a query within a scope, for tables of that form (``ways``: see ``rights_expression``); None if the scope sees nothing. Raises QueryError."""
    rights = rights_expression(scope, ways)
    if rights is None:
        return None
    return _together(scope, query.wanted, form, [rights, *_sizes(query, form)])


def closed_to(scope: Scope, query: Query) -> tuple[str, ...]:
    """Where words of a query that say no field are not looked for, since the scope has no right to it (rule 15): ``subject``, ``content``."""
    if scope.content or not any(_anywhere(node) for node in query.wanted):
        return ()
    return ("content",) if scope.subjects else ("subject", "content")


def _anywhere(node: Node) -> bool:
    if isinstance(node, Words):
        return node.field == ""
    if isinstance(node, Not):
        return _anywhere(node.node)
    return not isinstance(node, Marked) and any(_anywhere(each) for each in node.nodes)


def _sizes(query: Query, form: int) -> list[str]:
    """Roughly, for the full text: ``conditions_of`` is exact."""
    if form == 1:
        return []
    bounds = []
    if query.larger is not None:
        bounds.append(_any([size_token(1 << power) for power in range(min((query.larger + 1).bit_length(), SIZES) - 1, SIZES)]))
    if query.smaller is not None:
        bounds.append(
            _any([size_token(1 << power) for power in range(max(1, min(query.smaller.bit_length(), SIZES)))] + [size_token(0)])
        )
    return bounds


def _together(scope: Scope, nodes: Sequence[Node], form: int, needed: Sequence[str] = ()) -> str:
    """All of these. FTS5's NOT stands between two, so that what is not wanted comes last, and never alone."""
    wanted = [*needed, *(_node(scope, node, form) for node in nodes if not isinstance(node, Not))]
    whole = " AND ".join(f"({term})" for term in wanted or [_any([ANY])])
    for node in nodes:
        if isinstance(node, Not):
            whole = f"({whole}) NOT ({_node(scope, node.node, form)})"
    return whole


def _node(scope: Scope, node: Node, form: int) -> str:
    if isinstance(node, Words):
        return _term(scope, node, form)
    if isinstance(node, Marked):
        return _any([_mark(node)])
    if isinstance(node, All):
        return _together(scope, node.nodes, form)
    if isinstance(node, Not):
        return _together(scope, [node], form)
    return " OR ".join(f"({_node(scope, each, form)})" for each in node.nodes)


def _mark(node: Marked) -> str:
    if node.mark == "type":
        return type_token(node.value)
    return {"attachment": ATTACHMENT, "spam": SPAM}.get(node.mark) or direction_token(node.mark)


_PLACES = {
    "": ("sender", "recipients", "copies"),
    "from": ("sender",),
    "to": ("recipients", "copies"),
    "cc": ("copies",),
    "bcc": (),
    "subject": ("subject",),
    "body": ("body",),
    "content": ("body", "attached", "files"),
    "attachment": ("attached", "files"),
    "filename": ("files",),
    "list": ("headers",),
    "headers": ("headers",),
}
"""Where the words of a field are looked for, by everybody who may see them."""

NOBODY = "no"
"""Stands in no mail's rights."""

_OF_CONTENT = ("body", "attached", "files", "headers")
_IN_FIRST_FORM = {"attached": "body", "files": "body", "headers": "body", "copies": "recipients"}


def _term(scope: Scope, words: Words, form: int) -> str:
    phrase = _phrase(words)
    columns = list(_PLACES[words.field])
    if words.field == "":
        columns += ["subject"] if scope.subjects or scope.content else []
        columns += _OF_CONTENT if scope.content else []
    elif words.field == "subject" and not (scope.subjects or scope.content):
        raise QueryError("subject: subjects are not searchable with these rights")
    elif not scope.content and words.field in ("body", "content", "attachment", "filename", "list", "headers"):
        raise QueryError(f"{words.field}: what mail says is not searchable with these rights")
    reaches_recipients = words.field in ("", "to", "bcc")
    if reaches_recipients and scope.all_recipients:
        columns.append("hidden")
    columns = list(dict.fromkeys(name if name in FORMS[form] else _IN_FIRST_FORM[name] for name in columns))
    terms = [f"{{{' '.join(columns)}}} : {phrase}"] if columns else []
    if reaches_recipients and not scope.all_recipients and scope.mine:
        keys = sorted(scope.mine)
        terms.append(f"hidden : {phrase} AND {_any([right_token('s', key) for key in keys])}")
        if own := [right_token("r", key) for key in keys if _names(words, key)]:
            terms.append(_any(own) if words.field != "bcc" else f"hidden : {phrase} AND {_any(own)}")
    if (
        words.field in ("", "to")
        and scope.addresses is None
        and not scope.content
        and domain_of(address := words.text.strip("<>"))
    ):
        # An administrator finds what a mailbox got from outside, list mail that does not name it too (C16); whom people here wrote Bcc, nobody but they and auditors learns.
        terms.append(f"{_any([right_token('r', key_of(address))])} AND {_any([direction_token(Direction.IN.value)])}")
    return " OR ".join(f"({term})" for term in terms) or _any([NOBODY])


def _phrase(words: Words) -> str:
    """The words as the index has them, in each way of spelling them."""
    found = [quoted(text, prefix=words.prefix or single) for text, single in sought(words.text)]
    return found[0] if len(found) == 1 else f"({' OR '.join(found)})"


def _names(words: Words, key: str) -> bool:
    """Whether a term matches an address, as the index would see it."""
    wanted, have = tokens(words.text), tokens(key)
    for at in range(len(have) - len(wanted) + 1):
        part = have[at : at + len(wanted)]
        if part == wanted or (words.prefix and part[:-1] == wanted[:-1] and part[-1].startswith(wanted[-1])):
            return bool(wanted)
    return False
