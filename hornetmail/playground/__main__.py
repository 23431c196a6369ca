"""``python -m hornetmail.playground --dir DIR --ports N``: make a data directory if there is none, then run everything in one process."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver

from hornetmail import config as configuration
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.rooms.people import People
from hornetmail.compose.service import HornetMail, build
from hornetmail.compose.setting_up import setup
from hornetmail.core.served import Domain, Host, Role
from hornetmail.net.clients.dial import Dialer
from hornetmail.net.resolver import Resolver
from hornetmail.playground.ground import FAILING, Playground
from hornetmail.playground.primary import SmallPrimary
from hornetmail.tap import ROLES

DOMAIN = "example.test"
PASSWORDS = {"admin": "admin-playground", "auditor": "auditor-playground", "alice": "alice-playground", "bob": "bob-playground"}
PRIMARY_OFFSET = 2525


async def _people(base: Foundations, primary: int) -> None:
    """The domain and everybody in it."""
    people = await People.open(base)
    await people.directory.add_domain(Domain(DOMAIN, primaries=(Host("127.0.0.1", primary),)))
    roles = {"admin": (Role.ADMIN,), "auditor": (Role.AUDITOR,)}
    for name, password in PASSWORDS.items():
        secret = await people.access.new_secret(password)
        await people.directory.add_mailbox(
            f"{name}@{DOMAIN}", credential=secret.credential, roles=roles.get(name, ()), name=name.capitalize()
        )


def _tell(ports: int, directory: Path) -> None:
    """Addresses and log-ins, for a person."""
    print(f"\nHornetMail's playground is up: http://127.0.0.1:{ports + 80}/\n")
    for name, password in PASSWORDS.items():
        print(f"  {name}@{DOMAIN:15} {password}")
    print(
        f"\n  IMAP 127.0.0.1:{ports + 143}   POP3 127.0.0.1:{ports + 110}   SMTP (submission) 127.0.0.1:{ports + 587}"
        f"\n  mail from outside: SMTP 127.0.0.1:{ports + 25}; {', '.join(FAILING)}@{DOMAIN} fail on purpose"
        f"\n  the small primary: 127.0.0.1:{ports + PRIMARY_OFFSET}; stop and start it on the page “Playground” (as admin)"
        f"\n  command line: .venv/bin/hornetmail -c {directory}/hornetmail.toml status"
        f"\n  log: {directory}/hornetmail.log\n\nCtrl-C ends it; the data stays in {directory}.\n",
        flush=True,
    )


def main() -> None:
    """Run until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m hornetmail.playground")
    parser.add_argument("--dir", type=Path, default=Path("playground"))
    parser.add_argument("--ports", type=int, default=20_000)
    arguments = parser.parse_args()
    directory, ports = arguments.dir.absolute(), arguments.ports
    file = directory / "hornetmail.toml"
    if not file.exists():
        setup.init(directory, "mx.hornet.test", ports)
        setup.with_foundations(configuration.load(file), lambda base: _people(base, ports + PRIMARY_OFFSET))
    log = (directory / "hornetmail.log").open("a")
    globalLogBeginner.beginLoggingTo([textFileLogObserver(log)], redirectStandardIO=False)
    primary = SmallPrimary(installed, ports + PRIMARY_OFFSET, DOMAIN)
    dialer = Dialer(installed, Resolver(installed, []))
    service: HornetMail = build(
        installed, file, frozenset(ROLES), Playground(primary, dialer, Host("127.0.0.1", ports + 25), DOMAIN)
    )

    async def start() -> None:
        await primary.start()
        service.startService()
        await service.ready
        _tell(ports, arguments.dir)

    def failed(reason: object) -> None:
        print(f"the playground cannot start: {reason}", file=sys.stderr)

    reactor = installed
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(start()).addErrback(failed))
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()


if __name__ == "__main__":
    main()
