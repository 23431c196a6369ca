"""Compound files ([MS-CFB]): .doc, .xls, .ppt and .msg, by what lies in them."""

from __future__ import annotations

from io import BytesIO, StringIO

import olefile
import xlrd

from hornetmail.extraction.bounds import Enough, Gathered, Unreadable
from hornetmail.extraction.formats import outlook, powerpoint, word

MAGIC = olefile.MAGIC


def read(data: bytes, into: Gathered) -> list[tuple[str, bytes]]:
    """Its words, and the files that hang on it, which are other people's to read. Raises Unreadable, Enough."""
    try:
        with olefile.OleFileIO(BytesIO(data)) as file:
            names = {"/".join(path): path for path in file.listdir()}

            def stream(name: str) -> bytes:
                return bytes(file.openstream(names[name]).read()) if name in names else b""

            _about(file, into)
            if "EncryptedPackage" in names:
                raise Unreadable("it is encrypted")
            if "WordDocument" in names:
                word.read(stream("WordDocument"), stream, into)
            elif "PowerPoint Document" in names:
                powerpoint.read(stream("PowerPoint Document"), stream("Current User"), into)
            elif "__properties_version1.0" in names:
                return outlook.read(sorted(names), stream, into)
            elif "Workbook" not in names and "Book" not in names:
                raise Unreadable("this kind of file is not read")
    except (Unreadable, Enough, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  the library raises whatever its assumptions end in
        raise Unreadable(f"it is damaged: {error}") from None
    if "Workbook" in names or "Book" in names:
        _table(data, into)
    return []


def _about(file: olefile.OleFileIO, into: Gathered) -> None:
    if not file.exists("\x05SummaryInformation"):
        return
    try:
        about = file.getproperties("\x05SummaryInformation", convert_time=False, no_conversion=[10])
    except Exception:  # noqa: BLE001  what it says of itself may be anything; its words matter more
        return
    codec = (
        "utf-8"
        if about.get(1) in (65001, -535)
        else f"cp{about[1]}"
        if isinstance(about.get(1), int) and about[1] > 0
        else "cp1252"
    )
    for key in (2, 3, 4, 5, 6):
        value = about.get(key)
        if isinstance(value, bytes):
            try:
                value = value.decode(codec, "replace")
            except LookupError:
                value = value.decode("cp1252", "replace")
        if isinstance(value, str):
            into.add(value + "\n")


def _table(data: bytes, into: Gathered) -> None:
    try:
        book = xlrd.open_workbook(file_contents=data, logfile=StringIO(), on_demand=True, ragged_rows=True)
        for number in range(book.nsheets):
            sheet = book.sheet_by_index(number)
            into.add(sheet.name + "\n")
            for row in range(sheet.nrows):
                into.add(" ".join(_cell(cell, book.datemode) for cell in sheet.row(row)) + "\n")
            book.unload_sheet(number)
    except xlrd.XLRDError as error:
        why = "it is encrypted" if "encrypted" in str(error).lower() else f"it is damaged: {error}"
        raise Unreadable(why) from None
    except (Enough, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  the same
        raise Unreadable(f"it is damaged: {error!r}") from None


def _cell(cell: xlrd.sheet.Cell, datemode: int) -> str:
    if cell.ctype == xlrd.XL_CELL_TEXT:
        return str(cell.value)
    if cell.ctype == xlrd.XL_CELL_NUMBER:
        return f"{cell.value:.15g}"
    if cell.ctype == xlrd.XL_CELL_DATE:
        try:
            return str(xlrd.xldate_as_datetime(cell.value, datemode).date())
        except (ValueError, OverflowError):
            return ""
    return ""
