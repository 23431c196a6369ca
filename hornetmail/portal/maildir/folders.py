"""The folders of a mailbox's Maildir on disk: made, found, renamed, removed, subscribed. Everything here blocks and runs in threads."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from hornetmail.core import metadata
from hornetmail.core.sharing import ALL
from hornetmail.disk.anchor import Anchor
from hornetmail.disk.files import Disk
from hornetmail.portal.maildir import groups, naming, renaming

T = TypeVar("T")
P = ParamSpec("P")
F = TypeVar("F", bound="Folders")

SUBS = ("new", "cur")
LITTER = ".arriving"
"""What our unfinished files in ``tmp`` end with."""

GRANTS = "hornetmail-acl"
"""In a folder's directory: who was given which rights on it."""

ANNOTATIONS = "hornetmail-metadata"
"""In a folder's directory: its annotations (RFC 5464)."""

SERVER_ANNOTATIONS = "hornetmail-metadata-server"
"""Beside INBOX's: what its person has noted of the server."""

SETTLED_NS = 2_000_000_000
"""A directory changed this short before it was listed is listed again: its time stamp may not tell of a later change."""


def anchored(method: Callable[Concatenate[F, P], T]) -> Callable[Concatenate[F, P], T]:
    """The disk is there before and after, or it raises DiskAway: a file that is missing is gone, and one that was written is on it."""

    @functools.wraps(method)
    def watched(self: F, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.anchor.watched():
            return method(self, *args, **kwargs)

    return watched


class Folders:
    """The directory of one mailbox, and its folders. Errors as ``files.Maildir``'s."""

    def __init__(self, path: Path, disk: Disk, anchor: Anchor) -> None:
        self.path = path
        self.anchor = anchor
        self._text = str(path)
        self._disk = disk
        self._settled: set[Path] = set()
        """Folders whose own ``new`` and ``cur`` are known to be durable."""
        self._loose: dict[Path, set[str]] = {}
        """Directories of folders that files have left without a sync."""

    def folder(self, name: str) -> Path:
        """A folder's directory."""
        return self.path / naming.directory_of(name)

    def directories(self, name: str) -> tuple[str, str]:
        """Where a folder's messages lie."""
        folder = str(self.folder(name))
        return f"{folder}/new", f"{folder}/cur"

    @anchored
    def prepare(self, first: Sequence[str]) -> tuple[list[str], set[str] | None]:
        """Make a new mailbox with these folders, or mend an old one (``sweep``); the folders that are there, and ``subscriptions()``."""
        if not (self.path / "cur").is_dir():
            self._disk.make_directory(self.path)
            for name in (*first, naming.INBOX):  # INBOX last: it says that the mailbox was made
                self._mend(self.folder(name))
            self._disk.sync_directory(self.path)
        self._mend(self.path)
        self.sweep()
        found = self.folders()
        for name in found:
            self._mend(self.folder(name))
        return found, self.subscriptions()

    def _mend(self, folder: Path) -> None:
        """Directories that are missing. Not synced one by one: what a crash takes away is mended at the next start."""
        self._settled.discard(folder)
        for sub in ("tmp", *SUBS):
            if not (folder / sub).is_dir():
                if not folder.is_dir():
                    self._disk.make_directory_unsynced(folder)
                self._disk.make_directory_unsynced(folder / sub)

    @anchored
    def make(self, name: str) -> None:
        """A folder's directories, durable on return."""
        folder = self.folder(name)
        for sub in ("tmp", "new", "cur"):
            self._disk.make_directory(folder / sub)

    def folders(self) -> list[str]:
        """All that are there, INBOX included."""
        found = [naming.INBOX]
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.startswith(".") and entry.is_dir():
                    name = naming.folder_of(entry.name)
                    if name is not None and naming.directory_of(name) == entry.name:
                        found.append(name)
        return found

    @anchored
    def survey(self, known: tuple[int, float], names: Collection[str]) -> tuple[int, list[str]] | None:
        """The time stamp of the Maildir and the folders in it, those that have none of the ``names`` only if they are whole; None if there can be no others than
        when it was ``known``. Raises FileNotFoundError if it is away as a whole."""
        stamp = os.stat(self.path).st_mtime_ns
        if stamp == known[0] and known[1] * 1e9 - stamp > SETTLED_NS:
            return None
        found = self.folders()
        whole = [name for name in found if name in names or all((self.folder(name) / sub).is_dir() for sub in SUBS)]
        return stamp if len(whole) == len(
            found
        ) else 0, whole  # what is being made in a folder does not change the Maildir's own time

    def sweep(self) -> None:
        """Remove what a crash left: our unfinished files, half-removed folders."""
        for entry in list(os.scandir(self.path)):
            if entry.name.startswith("..gone") and entry.is_dir():
                self._remove_tree(Path(entry.path))
        for folder in [self.path, *(Path(entry.path) for entry in os.scandir(self.path) if entry.name.startswith("."))]:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                for name in os.listdir(folder / "tmp"):
                    if name.endswith(LITTER) or groups.unborn(name):
                        self._disk.unlink(folder / "tmp" / name, missing_ok=True)
                    elif name.endswith(groups.GROUP):
                        groups.settle(self._disk, folder, name)

    @anchored
    def drop(self, name: str, token: str) -> None:
        """Remove a folder with all that is in it. It is out of sight, durably, before anything is deleted; what cannot be deleted then is swept
        at the next start (``sweep``): the folder is gone all the same."""
        away = self.path / f"..gone{token}"
        self._settled.discard(self.folder(name))
        self._disk.rename(self.folder(name), away)
        with contextlib.suppress(OSError):
            self._remove_tree(away)

    def _remove_tree(self, path: Path) -> None:
        for root, directories, names in os.walk(path, topdown=False):
            for one in names:
                self._disk.unlink(Path(root, one), missing_ok=True)
            for one in directories:
                self._disk.remove_directory(Path(root, one))
        self._disk.remove_directory(path)

    @anchored
    def rename_folder(self, old: str, new: str) -> None:
        """Durable on return."""
        self._disk.rename(self.folder(old), self.folder(new))
        self._settled.discard(self.folder(new))

    @anchored
    def begin_renaming(self, folders: Sequence[renaming.Renamed]) -> None:
        """See ``renaming``."""
        renaming.begin(self._disk, self.path, folders)

    @anchored
    def end_renaming(self) -> None:
        """See ``renaming``."""
        renaming.end(self._disk, self.path)

    @anchored
    def back_from_renaming(self, folders: Sequence[renaming.Renamed]) -> list[renaming.Renamed]:
        """See ``renaming``."""
        return renaming.back(self._disk, self.path, folders)

    @anchored
    def finish_renaming(self, rows: Sequence[tuple[int, str]]) -> list[renaming.Renamed]:
        """See ``renaming``."""
        return renaming.finish(self._disk, self.path, rows)

    @anchored
    def unmake(self, names: Sequence[str]) -> None:
        """Remove folders that were made just now, as far as they are empty."""
        for name in reversed(names):
            self._disk.unlink(self.folder(name) / GRANTS, missing_ok=True)
            for sub in ("tmp", *SUBS, ""):
                self._disk.remove_directory(self.folder(name) / sub)

    # Rights

    def grants(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Rights that were given on these folders (``docs/formats.rst``), of those on which any were; what cannot be understood gives none."""
        found: dict[str, dict[str, str]] = {}
        for name in names:
            try:
                lines = (self.folder(name) / GRANTS).read_text("ascii", "replace").splitlines()
            except FileNotFoundError:
                continue
            pairs = [line.split() for line in lines]
            found[name] = {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and frozenset(pair[1]) <= frozenset(ALL)}
        return found

    @anchored
    def grant(self, name: str, grants: Mapping[str, str]) -> None:
        """Keep the rights on a folder, durably: an empty file where all were taken back, since one that is removed may come back after a crash."""
        lines = [f"{whom} {rights}\n" for whom, rights in sorted(grants.items())]
        self._disk.write_durably(self.folder(name) / GRANTS, "".join(lines).encode("ascii"))

    # Annotations

    def _annotations_of(self, name: str) -> Path:
        return self.folder(name) / ANNOTATIONS if name else self.path / SERVER_ANNOTATIONS

    @anchored
    def annotations(self, name: str) -> metadata.Kept:
        """Those of a folder, or of the server where ``name`` is empty. Raises FileNotFoundError if the folder is away."""
        path = self._annotations_of(name)
        try:
            return metadata.read(path.read_bytes())
        except FileNotFoundError:
            os.stat(path.parent)
            return metadata.Kept({}, [])

    @anchored
    def annotate(self, name: str, person: int, owner: int, changes: Mapping[str, bytes | None]) -> list[str]:
        """Change them (``Kept.change``), durably; what changed."""
        kept, changed = self.annotations(name).change(owner, person, changes)
        if changed:
            self._disk.write_durably(self._annotations_of(name), metadata.written(kept))
        return changed

    # Subscriptions

    def subscriptions(self) -> set[str] | None:
        """Names of subscribed folders, or None if there is no list yet."""
        try:
            lines = (self.path / "subscriptions").read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return None
        return {"/".join(naming.decode_level(level) for level in line.split(".")) for line in lines if line}

    @anchored
    def subscribe(self, names: set[str]) -> None:
        """Keep the list, durably."""
        lines = sorted(".".join(naming.encode_level(level) for level in name.split("/")) for name in names)
        self._disk.write_durably(self.path / "subscriptions", "".join(f"{line}\n" for line in lines).encode())
