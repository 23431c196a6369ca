"""The door to all operations: checks rights and requests, writes the audit log, turns exceptions into ``ApiError``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from twisted.logger import Logger

from hornetmail.access.login import AccessRefused, WeakPassword
from hornetmail.access.rights import Right, Suspended
from hornetmail.core.archive.archived import ArchiveError, HoldRefused, KeyRefused, MediumRefused, QueryError, Refused
from hornetmail.core.mail.address import AddressError
from hornetmail.db.engines import DatabaseBroken, DatabaseFull
from hornetmail.directory.store import DirectoryConflict, DirectoryError, DirectoryMissing
from hornetmail.disk.files import DiskFull
from hornetmail.web.api.catalogue import OPERATIONS
from hornetmail.web.api.operations import ApiError, Caller, Operation, outcome_of
from hornetmail.web.api.rooms import Rooms

REFUSALS = {"credentials": 401, "disabled": 403, "throttled": 429}


class Api:
    """All operations, by name. ``operations`` defaults to the whole catalogue."""

    log = Logger()

    def __init__(self, rooms: Rooms, operations: Sequence[Operation[Any, Any]] = OPERATIONS) -> None:
        self.rooms = rooms
        self.operations: dict[str, Operation[Any, Any]] = {operation.name: operation for operation in operations}

    async def call(self, caller: Caller, name: str, request: Any = None) -> Any:
        """Do the operation ``name`` with a request struct, or a mapping to make one from (texts are read as numbers and truth values where
        the struct wants them). Raises ApiError, and nothing else."""
        operation = self.operations.get(name)
        if operation is None:
            raise ApiError(404, "not_found", f"no operation {name!r}")
        self._permit(caller, operation)
        wanted = self._read(operation, request)
        operation.check_texts(wanted)
        try:
            return await self._run(caller, operation, wanted)
        except Exception as error:
            raise self._error(operation, error) from error

    async def _run(self, caller: Caller, operation: Operation[Any, Any], wanted: Any) -> Any:
        """Audit row first, then the action, then its outcome."""
        audit = self.rooms.audit if operation.audited else None
        if audit is None:
            return await operation.run(self.rooms, caller, wanted)
        subject, detail = operation.subject(wanted), operation.detail(wanted)
        row = await audit.begin(caller.label, operation.name, subject, detail, max(caller.tenant, 0))
        try:
            answer = await operation.run(self.rooms, msgspec.structs.replace(caller, entry=row), wanted)
        except Exception as error:
            await audit.outcome(row, f"{type(error).__name__}: {error}"[:1000])
            raise
        await audit.outcome(row, outcome_of(answer, row))
        return answer

    def _permit(self, caller: Caller, operation: Operation[Any, Any]) -> None:
        if caller.may(operation.right):
            return
        if caller.acting is None:
            raise ApiError(401, "login_needed", "log in first")
        if operation.right is Right.OPEN:
            raise ApiError(403, "refused", "the content of mail needs a person with the right to it: name one with --as ADDRESS")
        raise ApiError(403, "refused", f"{caller.label} may not {operation.summary[0].lower()}{operation.summary[1:]}")

    def _read(self, operation: Operation[Any, Any], request: Any) -> Any:
        if isinstance(request, operation.request):
            return request
        values: Any = {} if request is None else dict(request) if isinstance(request, Mapping) else request
        try:
            return msgspec.convert(values, operation.request, strict=False)
        except msgspec.ValidationError as error:
            raise ApiError(400, "invalid", say_where(error)) from None

    def _error(self, operation: Operation[Any, Any], error: Exception) -> ApiError:
        match error:
            case ApiError():
                return error
            case AccessRefused():
                return ApiError(REFUSALS.get(error.reason, 403), error.reason, str(error))
            case DirectoryMissing():
                return ApiError(404, "not_found", str(error))
            case DirectoryConflict():
                return ApiError(409, "conflict", str(error))
            case DirectoryError() | AddressError() | WeakPassword():
                return ApiError(400, "invalid", str(error))
            case DatabaseFull() | DatabaseBroken():
                return ApiError(503, "database", str(error))
            case DiskFull():
                return ApiError(503, "disk", str(error))
            case QueryError():
                return ApiError(400, "query", str(error))
            case Suspended():
                return ApiError(403, "suspended", str(error))
            case Refused():
                return ApiError(403, "refused", str(error))
            case KeyRefused() | HoldRefused() | MediumRefused():
                return ApiError(409, "conflict", str(error))
            case ArchiveError():
                return ApiError(503, "archive", str(error))
            case msgspec.ValidationError():
                return ApiError(400, "invalid", say_where(error))
        self.log.failure("operation {name} failed", name=operation.name)
        return ApiError(500, "failed", f"{operation.name} failed: {type(error).__name__}; the log has the rest")


def say_where(error: msgspec.ValidationError) -> str:
    """msgspec's ``… - at `$.primaries[0]``` the other way round: ``$.primaries[0]: …``."""
    text, found, where = str(error).partition(" - at `")
    return f"{where.rstrip('`')}: {text}" if found else f"$: {text}"
