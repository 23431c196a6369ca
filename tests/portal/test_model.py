"""Random operations against a model of folders, with restarts in between."""

from __future__ import annotations

import random
from typing import ClassVar

from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Portal
from hornetmail.core.folder import FolderError
from tests.portal.ground import MAIL, Bytes, Ground, message, row

FOLDERS = ("INBOX", "Archive", "Trash")
FLAGS = ("\\Seen", "\\Flagged", "\\Deleted", "$Work")


class Model:
    """What should be there: by folder, UID → (flags, number of the message, whether it is claimed)."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[int, tuple[frozenset[str], int]]] = {name: {} for name in FOLDERS}
        self.next = dict.fromkeys(FOLDERS, 1)
        self.copies: dict[int, Portal] = {}

    def add(self, name: str, flags: frozenset[str], number: int) -> int:
        uid = self.next[name]
        self.next[name] += 1
        self.folders[name][uid] = (flags, number)
        return uid


class AgainstAModel(TestCase):
    """The same seeds on both databases."""

    engine: ClassVar[str] = "sqlite"

    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground(self.engine)
        await self.ground.start()

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def test_model(self) -> None:
        """UIDs, flags, bytes and what drains stay right whatever is done in whatever order (C6, rule 10)."""
        for seed in range(3):
            await self.run_model(random.Random(seed), mailbox=1 + seed % 2, base=seed * 1_000)

    async def run_model(self, rng: random.Random, mailbox: int, base: int) -> None:
        model = Model()
        tree = self.ground.portal.tree(mailbox)
        for name in FOLDERS:  # what an earlier seed left
            folder = await tree.open(name)
            await folder.store([entry.uid for entry in await folder.entries()], add=["\\Deleted"])
            await folder.expunge()
            model.next[name] = (await folder.status()).uidnext
        for step in range(150):
            name = rng.choice(FOLDERS)
            here = model.folders[name]
            folder = await tree.open(name)
            some = rng.sample(sorted(here), min(len(here), rng.randint(0, 3)))
            action = rng.choice(("deliver", "deliver", "append", "store", "store", "expunge", "copy", "move", "drain", "restart"))
            if action == "deliver":
                number = base + step
                data = MAIL.replace(b"one", b"%d" % number)
                model.copies[number] = await self.ground.portal.deliver(mailbox, message(data, number), row(number), Bytes(data))
                model.add("INBOX", frozenset(), number)
            elif action == "append":
                flags = frozenset(rng.sample(FLAGS, 2))
                deposit = folder.append(flags, 1.0)
                await deposit.write(MAIL.replace(b"one", b"%d" % -step))
                done = await deposit.commit()
                assert done.targets == (model.add(name, flags, -step),)
            elif action == "store":
                flags = frozenset(rng.sample(FLAGS, rng.randint(0, 2)))
                way = rng.choice(("add", "remove", "replace"))
                for entry in await folder.store(some, **{way: flags}):
                    old, number = here[entry.uid]
                    here[entry.uid] = ({"add": old | flags, "remove": old - flags, "replace": flags}[way], number)
                    assert entry.flags == here[entry.uid][0]
            elif action == "expunge":
                wanted = {uid for uid, (flags, _) in here.items() if "\\Deleted" in flags}
                assert set(await folder.expunge()) == wanted
                for uid in wanted:
                    del here[uid]
            elif action in ("copy", "move"):
                await self.transfer(model, folder, name, some, rng.choice(FOLDERS), action)
            elif action == "drain" and model.copies:
                number = rng.choice(sorted(model.copies))
                await self.drain(model, number, rng.random() < 0.5)
            elif action == "restart" and rng.random() < 0.3:
                await self.ground.restart()
                tree = self.ground.portal.tree(mailbox)
            await self.compare(model, tree)

    async def transfer(self, model: Model, folder, name: str, some: list[int], target: str, action: str) -> None:  # type: ignore[no-untyped-def]
        here = model.folders[name]
        if action == "move" and target == name:
            return
        done = await (folder.copy if action == "copy" else folder.move)(some, target)
        assert done.sources == tuple(sorted(some))
        assert done.targets == tuple(model.add(target, *here[uid]) for uid in sorted(some))
        if action == "move":
            for uid in some:
                del here[uid]

    async def drain(self, model: Model, number: int, delivered: bool) -> None:
        inbox = model.folders["INBOX"]
        there = [uid for uid, (flags, one) in inbox.items() if one == number and "\\Deleted" not in flags]
        copy = model.copies[number]
        claimed = await self.ground.portal.begin_drain(copy)
        assert (claimed is not None) == bool(there)
        if claimed is None:
            return
        assert b"Subject: %d\r\n" % number in await claimed[1].read()
        folder = await self.ground.portal.folder(copy.mailbox, "INBOX")
        try:
            await folder.store(there, add=["\\Answered"])
        except FolderError as error:
            assert error.code == "INUSE"
        else:
            self.fail("a claimed copy was changed")
        await self.ground.portal.end_drain(copy, delivered=delivered, keyword="$Work")
        for uid in there:
            if delivered:
                del inbox[uid]
            else:
                inbox[uid] = (inbox[uid][0] | {"$Work"}, number)

    async def compare(self, model: Model, tree) -> None:  # type: ignore[no-untyped-def]
        for name in FOLDERS:
            folder = await tree.open(name)
            entries = await folder.entries()
            assert {entry.uid: entry.flags for entry in entries} == {
                uid: flags for uid, (flags, _) in model.folders[name].items()
            }
            for entry in entries[:2]:
                assert b"Subject: %d\r\n" % model.folders[name][entry.uid][1] in await (await folder.body(entry.uid)).read()
        assert len({entry.name for name in FOLDERS for entry in await (await tree.open(name)).entries()}) == sum(
            map(len, model.folders.values())
        )


class AgainstAModelOnPostgreSQL(AgainstAModel):
    """The same on PostgreSQL."""

    engine = "postgresql"
