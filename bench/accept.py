"""Durable accept, 10 KB messages: HornetMail's SMTP door and queue against Postfix's smtpd and cleanup, in turn, and their ratio.

    .venv/bin/python bench/accept.py [--messages 4000] [--pairs 5] [--connections 20] [--size 10000]

Load: Debian's ``smtp-source``, over kept connections (``-d``) and with a connection a message. Neither side delivers meanwhile: Postfix puts what it
takes on hold (``static:HOLD``), HornetMail runs door and queue without a scheduler. Both have the message on disk before their 250. The
two take turns and change who begins; the first pair warms up and does not count. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.peers.postfix import Postfix, free_port
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


def serve(port: int, directory: Path) -> None:
    """HornetMail's half: the MX door over a queue of its own, until it is killed."""
    from twisted.internet import reactor as running
    from twisted.internet.defer import Deferred
    from twisted.logger import Logger, globalLogBeginner

    from hornetmail.disk.files import Disk
    from hornetmail.disk.seal import Seal
    from hornetmail.net.limits import Limits
    from hornetmail.net.listener import PumpFactory
    from hornetmail.runtime.bus import Bus
    from hornetmail.runtime.collector import calm
    from hornetmail.servers.relay import RelayNetworks
    from hornetmail.servers.smtp import Services, SMTPSession
    from hornetmail.servers.smtp_policy import mx
    from hornetmail.spool.start import open_queue
    from hornetmail.wire.smtp.server import ServerEngine
    from tests.servers.smtp_fakes import DOMAINS, FakeAccess, FakeDirectory, FakeMeters, FakeRecipients

    reactor: object = running
    log_file = (directory / "log").open("w")
    globalLogBeginner.beginLoggingTo([lambda event: log_file.write(f"{event.get('log_format')}\n")], redirectStandardIO=False)

    async def start() -> None:
        queue = await open_queue(
            reactor,
            directory / "queue",
            f"sqlite:///{directory}/queue.db",
            disk=Disk(),
            seal=Seal(secrets.token_bytes(32)),
            least_free=0.0,
        )
        known = FakeDirectory(DOMAINS)
        services = Services(
            queue, known, FakeAccess(), FakeRecipients(), RelayNetworks(known), Bus(reactor), FakeMeters(), reactor
        )  # type: ignore[arg-type]
        policy = mx("mx.hornet.test")
        engine = policy.engine(starttls=False)
        factory = PumpFactory(
            lambda peer: ServerEngine(engine),
            lambda peer: SMTPSession(policy, services),
            reactor,  # type: ignore[arg-type]
            limits=Limits(2000, 2000),
        )
        calm()  # as the service does
        running.listenTCP(port, factory.listener, backlog=1000, interface="127.0.0.1")  # type: ignore[attr-defined]

    def failed(failure: object) -> None:
        Logger().failure("the door did not open", failure)
        print(failure, file=sys.stderr)
        running.stop()  # type: ignore[attr-defined]

    Deferred.fromCoroutine(start()).addErrback(failed)
    running.run()  # type: ignore[attr-defined]


class Hornet:
    """That half in a process of its own."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hornetmail-accept-"))
        self.port = free_port()
        self.process = subprocess.Popen([sys.executable, __file__, "--serve", str(self.port), "--directory", str(self.root)])
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
        shutil.rmtree(self.root, ignore_errors=True)


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
    parser.add_argument("--serve", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.directory)
        return
    compare("kept connections", True, arguments)
    compare("a connection a message", False, arguments)


if __name__ == "__main__":
    main()
