"""What is done without a running service: a new data directory, a rebuilt archive, a key typed in from its paper."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hornetmail import config as configuration
from hornetmail.archive.keys import paper
from hornetmail.archive.keys.keyring import KEYRING_NAME, KeyReplaced, Keyring, KeyTrouble, new_root
from hornetmail.archive.keys.rootstore import IRoots
from hornetmail.compose.ground.certificate import self_signed
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.ground.keys import ServerKey
from hornetmail.compose.rooms.people import People, control_database
from hornetmail.compose.rooms.rooms import archive_of, register_of, root_of, root_store
from hornetmail.compose.setting_up import offline
from hornetmail.config import Config
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.core.mail.address import AddressError, fold_domain
from hornetmail.core.served import Role
from hornetmail.db.engines import DatabaseError
from hornetmail.db.migrate import SchemaError
from hornetmail.disk.anchor import Anchor
from hornetmail.disk.files import Disk
from hornetmail.disk.lock import AlreadyRunning
from hornetmail.disk.mounts import NetworkFileSystem, refuse_foreign
from hornetmail.disk.records import LogBroken
from hornetmail.disk.seal import BrokenSeal

T = TypeVar("T")


class SetupError(RuntimeError):
    """It cannot be done; the message says why in one line."""


class NotEmpty(SetupError):
    """The directory for a new installation holds something already; the message names it."""


class InitResult(msgspec.Struct, frozen=True):
    """The administrator's log-in and one-time password, and what to say about the archive key (A3, A4)."""

    admin: str
    password: str
    key_backup_hint: str


def init(directory: Path, hostname: str, ports: int | None = None) -> InitResult:
    """A new data directory: configuration, server key, TLS pair, archive with its key, databases, administrator.

    Raises NotEmpty, ConfigError (host name, ports), OSError. What was begun and failed is left for inspection.
    """
    directory = directory.absolute()
    try:
        hostname = fold_domain(hostname)
    except AddressError as error:
        raise configuration.ConfigError(f"--hostname: {error}") from None
    if directory.exists():
        refuse_foreign(directory)
        if any(directory.iterdir()):
            raise NotEmpty(f"{directory} is not empty")
    text = configuration.write_default(directory, hostname, ports)
    disk = Disk()
    for name in ("", "keys", "tls", "queue", "portal", "archive"):
        disk.make_directory(directory / name)
    for name in ("queue", "portal"):
        Anchor(directory / name, disk).renew()
    ServerKey.create(directory / "keys" / "server.key", disk)
    certificate, key = self_signed(hostname, datetime.datetime.now(datetime.UTC))
    disk.write_durably(directory / "tls" / "cert.pem", certificate, 0o644)
    disk.write_durably(directory / "tls" / "key.pem", key)
    config_file = directory / "hornetmail.toml"
    disk.write_durably(config_file, text.encode())
    config = configuration.load(config_file)
    root = new_root()
    root_store(config, disk).write(root)
    admin = f"admin@{hostname}"
    password = with_foundations(config, lambda base: _first_steps(base, root, admin))
    return InitResult(
        admin,
        password,
        "If the archive key is lost, the archive is lost: nobody can restore it. Back it up now:\n"
        f"  hornetmail -c {config_file} archive key backup key.txt      (with the service running; print the file, keep it in a safe)",
    )


async def _first_steps(base: Foundations, root: bytes, admin: str) -> str:
    people = await People.open(base)
    media = await register_of(base, people.control).open()
    await base.offload(archive_of(base, root, media).create)
    secret = await people.access.new_secret()
    await people.directory.add_mailbox(admin, credential=secret.credential, roles=(Role.ADMIN,), name="Administrator")
    return secret.shown


def with_foundations(config: Config, task: Callable[[Foundations], Awaitable[T]], *, restoring: bool = False) -> T:
    """Run a task on the foundations of a data directory that no service holds; one in which a restore was begun only if it is ``restoring``. Raises SetupError and what else the task raises."""

    async def run(reactor: Any) -> T:
        base = Foundations(reactor, config, restoring)
        try:
            base.start_pool(base.threads)
            return await task(base)
        finally:
            await base.close()

    try:
        return offline.run(run)
    except (AlreadyRunning, NetworkFileSystem, ArchiveError, DatabaseError, SchemaError, BrokenSeal, LogBroken) as error:
        raise SetupError(str(error)) from error


def rebuild(config: Config, passphrase: str = "") -> dict[str, Any]:
    """``archive.db`` anew, from medium and key alone (L3): the number of mails, and what could not be read. ``passphrase``: that the key lies under, if
    it does. Raises SetupError."""

    async def task(base: Foundations) -> dict[str, Any]:
        register = register_of(base, await control_database(base))
        roots = root_store(config, base.disk)
        root = await base.offload(roots.open_typed, passphrase) if passphrase else await root_of(base, roots)
        archive = archive_of(base, root, await register.open())
        if not base.directory("archive/leaves").exists():
            await base.offload(archive.restore)
        await archive.start()
        try:
            found = await archive.rebuild()
            figures = await archive.figures()
        finally:
            await archive.stop()
            await base.offload(register.close)
        return {"mails": figures.mails, "unreadable": [{"where": each.where, "what": each.what} for each in found]}

    return with_foundations(config, task)


def read_paper(text: str, password: str) -> bytes:
    """The root key. Raises SetupError that names the bad line, or says that the password is wrong."""
    try:
        return paper.restore(text, password)
    except ArchiveError as error:
        raise SetupError(str(error)) from None


def import_key(config: Config, text: str, password: str) -> None:
    """Put the key of a paper in place; where a passphrase is asked for, the paper's password is that from now on. Raises SetupError: a line is bad, the key is older than the archive's keys, or not
    theirs while the key that is here opens them."""
    root = read_paper(text, password)

    async def task(base: Foundations) -> None:
        roots = root_store(config, base.disk)
        await base.offload(_check_key, base.directory("archive") / KEYRING_NAME, roots, root)
        roots.choose(password)
        await base.offload(roots.write, root)

    with_foundations(config, task)


def _check_key(keyring: Path, roots: IRoots, root: bytes) -> None:
    """Raises KeyReplaced or SetupError: the archive that is here has another key, and must not lose it to a slip."""
    if not keyring.exists():
        return
    data = keyring.read_bytes()
    try:
        Keyring.from_bytes(data, root)
    except KeyReplaced:
        raise
    except KeyTrouble as error:
        if _opens(data, roots):
            raise SetupError(
                f"{error}; the key that is here opens it: move {keyring.parent} away before this one is imported"
            ) from None


def _opens(data: bytes, roots: IRoots) -> bool:
    try:
        present = roots.read()
        return present is not None and not Keyring.from_bytes(data, present).locked
    except KeyTrouble:
        return False
