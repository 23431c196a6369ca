"""The shape of an operation: one thing that the panel, the command line and scripts can ask for.

An operation takes one frozen struct and answers one. Over HTTP the fields of the request named in ``path`` come from the path, the others
from the query (GET, DELETE) or the JSON body. Identifiers of 63 bits are strings on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from hornetmail.access.rights import LOCAL_ADMINISTRATOR, Right, may
from hornetmail.core.served import Person
from hornetmail.core.text import unseen
from hornetmail.web.api.rooms import Rooms

Q = TypeVar("Q", bound=msgspec.Struct)
R = TypeVar("R")
T = TypeVar("T")

Secret = Annotated[str, msgspec.Meta(extra={"secret": True}, extra_json_schema={"format": "password", "writeOnly": True})]
"""Text that is never logged or written into the audit log."""


Lines = Annotated[str, msgspec.Meta(extra={"lines": True})]
"""Text of several lines."""


class ApiError(Exception):
    """An operation that was not done. ``status`` is an HTTP status, ``code`` stable for programs, ``text`` one line for people."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.text = text


class Caller(msgspec.Struct, frozen=True):
    """Who asks, and through which door: ``socket``, ``http`` or ``page``.

    ``root``: whoever may open the data directory's socket, with ``person`` None. ``peer``: IP address or ``""``. ``session``: the ID of the
    web session, or ``""``. ``entry``: the audit log's number of this call, 0 if it has none.
    """

    person: Person | None = None
    door: str = "page"
    root: bool = False
    peer: str = ""
    session: str = ""
    entry: int = 0

    @property
    def acting(self) -> Person | None:
        """The person, or the local administrator, or None: nobody."""
        return LOCAL_ADMINISTRATOR if self.root and self.person is None else self.person

    @property
    def label(self) -> str:
        """For the audit log."""
        if self.person is not None:
            return self.person.address
        return "local administrator" if self.root else "nobody"

    @property
    def tenant(self) -> int:
        """The tenant that the caller is confined to; 0: none, all of them."""
        who = self.acting
        return -1 if who is None else who.tenant

    def may(self, right: Right) -> bool:
        """Whether the caller has a right."""
        return may(self.acting, right)

    def reaches(self, tenant: int) -> bool:
        """Whether things of that tenant are the caller's business (rule 25)."""
        return self.tenant in (0, tenant)


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request without fields."""


class Done(msgspec.Struct, frozen=True):
    """It was done. ``changed``: how many things it changed, where that means something."""

    changed: int = 1


class Waiting(msgspec.Struct, frozen=True):
    """Something that was not done: it waits for a second person as request ``number`` (rule 15). ``entry``: the audit log's number of the asking."""

    number: int
    kind: str
    text: str
    entry: int


class MayWait(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of an operation that may have had to leave something to a second person; ``waits`` names it."""

    waits: list[Waiting] = []

    def outcome(self) -> str:
        """What was done, for the audit log."""
        return "done"


def outcome_of(answer: Any, entry: int) -> str:
    """For the audit log: ``done``, or that it, or a part of it, waits; ``entry`` is the call's row."""
    waits = answer.waits if isinstance(answer, MayWait) else []
    numbers = ", ".join(str(one.number) for one in waits if one.entry == entry)
    done = answer.outcome() if isinstance(answer, MayWait) else "done"
    return f"waits for a second person: request {numbers}" if numbers else done


class Raw(msgspec.Struct, frozen=True):
    """Bytes as they are, in place of JSON."""

    content_type: str
    filename: str
    data: bytes


class Operation(Generic[Q, R]):
    """One operation. ``path`` lies below ``/api/v1`` and may name fields: ``/domains/{name}``. ``audited`` defaults to everything but GET."""

    def __init__(
        self,
        name: str,
        method: str,
        path: str,
        request: type[Q],
        response: type[R],
        right: Right,
        summary: str,
        run: Callable[[Rooms, Caller, Q], Awaitable[R]],
        *,
        audited: bool | None = None,
    ) -> None:
        self.name = name
        self.method = method
        self.path = path
        self.request = request
        self.response = response
        self.right = right
        self.summary = summary
        self.run = run
        self.audited = method != "GET" if audited is None else audited
        self.in_path: tuple[str, ...] = tuple(re.findall(r"\{(\w+)\}", path))
        fields = msgspec.structs.fields(request)
        self.secrets = frozenset(field.encode_name for field in fields if _says(field.type, "secret"))
        self._of_lines = frozenset(field.encode_name for field in fields if _says(field.type, "lines"))

    @property
    def _subjects(self) -> tuple[str, ...]:
        """The fields in the path, else the first field if it names something."""
        first = [field.name for field in msgspec.structs.fields(self.request)[:1] if field.type in (str, list[str])]
        return self.in_path or tuple(first)

    def check_texts(self, request: Q) -> None:
        """What is kept and shown to others has nothing in it that cannot be seen; what only asks, or names what is there, and secrets may have.
        Raises ApiError 400."""
        if self.method in ("GET", "DELETE"):
            return
        for field in msgspec.structs.fields(self.request):
            if field.encode_name not in self.secrets and field.name not in self.in_path:
                lines = field.encode_name in self._of_lines
                if trouble := _unseen(getattr(request, field.name), f"$.{field.encode_name}", lines=lines):
                    raise ApiError(400, "invalid", trouble)

    def subject(self, request: Q) -> str:
        """What it is done to, for the audit log."""
        values = [getattr(request, name) for name in self._subjects]
        return " ".join(" ".join(map(str, value)) if isinstance(value, list) else str(value) for value in values)[:500]

    def detail(self, request: Q) -> str:
        """The other fields as JSON, without secrets and fields left at their default."""
        shown: dict[str, Any] = {}
        for field in msgspec.structs.fields(self.request):
            value = getattr(request, field.name)
            default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            if field.encode_name not in self.secrets and field.name not in self._subjects and value != default:
                shown[field.encode_name] = value
        return msgspec.json.encode(shown).decode()[:4000] if shown else ""


def _says(kind: Any, what: str) -> bool:
    """Whether the type is ``Secret`` (or ``Lines``), or says that it may be one: ``Secret | UnsetType``."""
    metas = getattr(kind, "__metadata__", ())
    if any(isinstance(meta, msgspec.Meta) and bool((meta.extra or {}).get(what)) for meta in metas):
        return True
    return get_origin(kind) in (Union, UnionType) and any(_says(each, what) for each in get_args(kind))


def _unseen(value: Any, where: str, *, lines: bool) -> str:
    """What in a value, or in what it holds, is no text that people can read, with its place."""
    if isinstance(value, str):
        why = unseen(value, lines=lines)
        return f"{where}: {why}" if why else ""
    if isinstance(value, (list, tuple)):
        inner = (_unseen(each, f"{where}[{at}]", lines=lines) for at, each in enumerate(value))
    elif isinstance(value, msgspec.Struct):
        inner = (_unseen(getattr(value, name), f"{where}.{name}", lines=lines) for name in value.__struct_fields__)
    else:
        return ""
    return next(filter(None, inner), "")


def need(room: T | None, role: str) -> T:
    """The room, or 503 ``role_off`` if this process does not run it."""
    if room is None:
        raise ApiError(503, "role_off", f"{role} does not run in this process")
    return room


def missing(what: str) -> ApiError:
    """404 for a thing that is not there, or not the caller's business."""
    return ApiError(404, "not_found", what)


def number(text: str, what: str) -> int:
    """A 63-bit identifier from its string. Raises ApiError 400."""
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 63:
        raise ApiError(400, "invalid", f"{what} {text[:40]!r}: not an ID")
    return int(text)
