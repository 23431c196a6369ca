"""Durable accept, 10 KB messages: HornetMail's SMTP door and queue against Postfix's smtpd and cleanup, in turn, and their ratio.

    .venv/bin/python bench/accept.py [--messages 4000] [--pairs 5] [--connections 20] [--size 10000]

Load: Debian's ``smtp-source``, over kept connections (``-d``) and with a connection a message. Neither side delivers meanwhile: Postfix puts what it
takes on hold (``static:HOLD``), HornetMail is put together as by ``twistd``, and its deliveries are not started. Both have the message on disk before their 250. The
two take turns and change who begins; the first pair warms up and does not count. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.peers.installation import Installation
from tests.peers.postfix import Postfix
from tests.peers.waiting import until

SOURCE = "/usr/sbin/smtp-source"
POSTSUPER = "/usr/sbin/postsuper"

PINNED = """\
smtpd_client_restrictions = check_client_access static:HOLD
default_process_limit = 100
in_flow_delay = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
"""


def serve(config: Path) -> None:
    """HornetMail's half, until it is killed: the service as ``twistd`` runs it, real directory, databases, doors and log lines, but for its
    deliveries, which are never started."""
    from twisted.internet import reactor as running
    from twisted.internet.defer import Deferred
    from twisted.logger import Logger, globalLogBeginner

    from hornetmail import config as configuration
    from hornetmail.compose.doors import mail
    from hornetmail.compose.doors.doors import Doors
    from hornetmail.compose.ground.foundations import Foundations
    from hornetmail.compose.ground.logfile import StreamLog
    from hornetmail.compose.rooms.people import People
    from hornetmail.compose.rooms.rooms import MailRooms
    from hornetmail.core.served import Domain
    from hornetmail.net.tls import ServerTLS
    from hornetmail.runtime.collector import calm

    reactor: Any = running
    globalLogBeginner.beginLoggingTo([StreamLog((config.parent / "log").open("w"))], redirectStandardIO=False)
    base = Foundations(reactor, configuration.load(config))

    async def start() -> None:
        base.start_pool(base.threads)
        people = await People.open(base)
        await people.directory.add_domain(Domain("example.test"))
        await people.directory.add_mailbox("alice@example.test")
        rooms = await MailRooms.open(base, people)
        tls = ServerTLS(base.config.path(base.config.tls.certificate), base.config.path(base.config.tls.key))
        await mail.listen(base, people, rooms, tls, Doors(base))
        calm()  # as the service does

    def failed(failure: object) -> None:
        Logger().failure("the door did not open", failure)
        print(failure, file=sys.stderr)
        reactor.stop()

    Deferred.fromCoroutine(start()).addErrback(failed)
    reactor.run()


class Hornet:
    """That half in a process of its own."""

    def __init__(self) -> None:
        self.installation = Installation()
        self.port = self.installation.port(25)
        self.process = subprocess.Popen([sys.executable, __file__, "--serve", str(self.installation.config)])
        until(self.answers, "HornetMail answers", seconds=30)

    def answers(self) -> bool:
        """Whether its door is open. AssertionError if the process is gone."""
        assert self.process.poll() is None, "HornetMail's half ended"
        return subprocess.run(
            [SOURCE, "-m", "1", "-t", "alice@example.test", f"127.0.0.1:{self.port}"], capture_output=True, check=False
        ).returncode == 0  # fmt: skip

    def close(self) -> None:
        """End it, threads of the queue included, and remove what it took."""
        self.process.kill()
        self.process.wait()
        self.installation.close()


def measure(port: int, kept: bool, arguments: argparse.Namespace) -> float:
    """Messages per second, from the first connection to the last 250."""
    keep = ["-d"] if kept else []
    began = time.monotonic()
    subprocess.run(
        [SOURCE, *keep, "-s", str(arguments.connections), "-m", str(arguments.messages), "-l", str(arguments.size),
         "-f", "sender@outside.test", "-t", "alice@example.test", f"127.0.0.1:{port}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return float(arguments.messages / (time.monotonic() - began))


def compare(name: str, kept: bool, arguments: argparse.Namespace) -> None:
    """All pairs of one kind of load, and their medians."""
    ours: list[float] = []
    theirs: list[float] = []
    postfix = Postfix(PINNED)
    hornet = Hornet()
    try:
        postfix.start()
        for pair in range(arguments.pairs + 1):
            turns = [(hornet.port, ours), (postfix.port, theirs)]
            for port, figures in turns if pair % 2 else reversed(turns):
                figures.append(measure(port, kept, arguments))
            subprocess.run([POSTSUPER, "-c", str(postfix.config), "-d", "ALL"], check=True, capture_output=True)
            if pair == 0:
                ours.clear()
                theirs.clear()
                continue
            print(
                f"{name}, pair {pair}: Postfix {theirs[-1]:6.0f}/s   HornetMail {ours[-1]:6.0f}/s   ratio {ours[-1] / theirs[-1]:.2f}",
                flush=True,
            )
    finally:
        hornet.close()
        postfix.close()
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(
        f"{name}, median: Postfix {statistics.median(theirs):.0f}/s, HornetMail {statistics.median(ours):.0f}/s; ratio {ratio:.2f}",
        flush=True,
    )


def main() -> None:
    """Both kinds of load, or HornetMail's half."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(arguments.serve)
        return
    compare("kept connections", True, arguments)
    compare("a connection a message", False, arguments)


if __name__ == "__main__":
    main()
