"""The configuration file: TOML into frozen structs.

``hornetmail.toml`` holds what is needed to start. Domains, people, media, feeds and policies are in the database and change while it runs.
Relative paths count from the data directory, and the data directory from the file's own place.
"""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec

from hornetmail.core.archive.archived import MAX_MAIL
from hornetmail.core.mail.address import AddressError, fold_domain

DOORS = ("mx", "relay", "submission", "submissions", "imap", "imaps", "pop3", "pop3s", "http", "https", "lmtp")
"""Every door that can listen, by its name in ``[listen]``."""

STANDARD_PORTS = {
    "mx": 25,
    "relay": 26,
    "submission": 587,
    "submissions": 465,
    "imap": 143,
    "imaps": 993,
    "pop3": 110,
    "pop3s": 995,
    "http": 80,
    "https": 443,
    "lmtp": 24,
}
"""Also the offsets of ``init --ports N``."""

_LOCAL_DOORS = frozenset({"relay", "lmtp"})
"""Doors that ``init`` opens on loopback only: who may come in there must be decided first."""

_KINDS = frozenset({"tcp", "tcp4", "tcp6", "unix", "systemd", "haproxy"})

Positive = Annotated[int, msgspec.Meta(gt=0)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class ConfigError(ValueError):
    """The file cannot be used; one line says where and why."""


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Twisted endpoint strings by door; an empty list closes the door. ``submissions``, ``imaps``, ``pop3s`` and ``https`` speak TLS from
    the first byte, whatever the endpoint says; write ``tcp:``."""

    mx: tuple[str, ...] = ()
    relay: tuple[str, ...] = ()
    submission: tuple[str, ...] = ()
    submissions: tuple[str, ...] = ()
    imap: tuple[str, ...] = ()
    imaps: tuple[str, ...] = ()
    pop3: tuple[str, ...] = ()
    pop3s: tuple[str, ...] = ()
    http: tuple[str, ...] = ()
    https: tuple[str, ...] = ()
    lmtp: tuple[str, ...] = ()

    def door(self, name: str) -> tuple[str, ...]:
        """The endpoints of one of ``DOORS``."""
        endpoints: tuple[str, ...] = getattr(self, name)
        return endpoints


class TLS(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """PEM files: the certificate with its chain, and its key."""

    certificate: str = "tls/cert.pem"
    key: str = "tls/key.pem"


class Databases(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``sqlite:///absolute/path`` or ``postgresql://…``; empty: an SQLite file in the data directory. The archive's is always a file."""

    control: str = ""
    queue: str = ""
    portal: str = ""
    recipients: str = ""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``max_size``: bytes of a message, at most what can be archived. ``connections``: of a door; ``per_ip``: of an address (IPv6: /64) at a door. ``recipients``: of a
    transaction. ``errors``: mistakes until a connection is closed, counted anew after each accepted message. ``unknown_recipients``: refused ones
    until a stranger's connection is closed, and ``unknown_per_network`` in an hour from an address (IPv6: /64) until it is closed after the first. ``disk_percent``: above it new mail gets 452 (rule 20). ``hops``: Received
    lines above which a message goes in circles (rule 7). ``messages_in_memory``: of the queue that are kept whole, 2 KB each; of the others memory keeps
    what decides when and where they go."""

    max_size: Annotated[int, msgspec.Meta(gt=0, le=MAX_MAIL)] = 52_428_800
    connections: Positive = 2_000
    per_ip: Positive = 100
    recipients: Annotated[int, msgspec.Meta(ge=100)] = 1_000
    errors: Positive = 20
    unknown_recipients: Positive = 20
    unknown_per_network: Positive = 100
    disk_percent: Annotated[int, msgspec.Meta(ge=1, le=100)] = 90
    hops: Positive = 25
    messages_in_memory: Positive = 20_000


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``file`` empty: standard output. SIGHUP opens it anew."""

    file: str = ""
    level: Literal["debug", "info", "warn", "error"] = "info"


class ArchiveKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the archive's root key lies under between two starts (A2). ``source``: ``file``, nothing, in a file of its own; ``passphrase``, typed after each
    start; ``credential``, the name of a systemd credential; ``command``, program and arguments whose output it is, within ``seconds``. The others may stay
    while the source is changed: the key is then taken from there."""

    source: Literal["file", "passphrase", "credential", "command"] = "file"
    credential: str = ""
    command: tuple[str, ...] = ()
    seconds: Annotated[float, msgspec.Meta(gt=0, le=300)] = 10.0


class Archive(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``medium``: directory of the first medium, which ``init`` makes. ``seal_seconds``: how long mail waits in the local staging pack until
    it goes to the medium (rule 20). What retention lets go at once without being asked to (rule 19): ``purge_percent`` of all mails, or
    ``purge_floor`` mails, whichever is more. ``key``: what its root key lies under."""

    medium: str = "archive/medium"
    seal_seconds: Seconds = 900.0
    purge_percent: Annotated[float, msgspec.Meta(ge=0, le=100)] = 5.0
    purge_floor: Annotated[int, msgspec.Meta(ge=0)] = 100
    key: ArchiveKey = msgspec.field(default_factory=ArchiveKey)


class Processes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Processes beside the service. ``files``: so many read the files that hang on archived mail (0: none; those files are not searched); ``memory_mb``: address space of each; ``seconds``: of the
    processor that one file may take."""

    files: Annotated[int, msgspec.Meta(ge=0, le=64)] = 1
    memory_mb: Annotated[int, msgspec.Meta(ge=512)] = 1_024
    seconds: Annotated[float, msgspec.Meta(ge=1, le=3_600)] = 30.0


class Delivery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Seconds. Time-outs towards other servers (rule 1): ``connect``; ``reply`` to a command; ``data``: for 354, and for taking a piece of text;
    ``dot``: for the verdict. ``retry`` until the second attempt, doubled up to ``retry_most``; after ``give_up`` mail goes back."""

    connect: Seconds = 10.0
    reply: Seconds = 60.0
    data: Seconds = 120.0
    dot: Seconds = 600.0
    retry: Seconds = 60.0
    retry_most: Seconds = 3_600.0
    give_up: Seconds = 432_000.0


class Alarms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Seconds. ``look``: between two looks at what is wrong and who is to be told. ``confirm``: an alarm from before a restart that is not raised
    again within so many has ended; what raises alarms looks at least that often."""

    look: Seconds = 30.0
    confirm: Seconds = 1_200.0


class Portal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``announce_days``: so many days before portal folders expire, their owner is told (rule 24)."""

    announce_days: Annotated[tuple[Seconds, ...], msgspec.Meta(min_length=1, max_length=10)] = (14.0, 3.0)


class Relay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``networks``: whose hosts may send for any served domain through the relay door, besides those that a domain names itself."""

    networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")


class DNS(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``servers``: addresses, optionally ``ADDRESS:PORT`` or ``[IPv6]:PORT``; empty: those of ``/etc/resolv.conf``."""

    servers: tuple[str, ...] = ()


class Web(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``proxies``: networks of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed. ``prefix``: the path that they show
    the site under, like ``/archive`` (A45)."""

    proxies: tuple[str, ...] = ()
    prefix: str = ""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of it. ``directory`` is absolute once loaded. ``plaintext_login``: passwords without TLS are taken never, from loopback, or always."""

    hostname: str
    directory: str = "."
    node: Annotated[int, msgspec.Meta(ge=0, le=1023)] = 0
    plaintext_login: bool | Literal["loopback"] = False
    listen: Listen = msgspec.field(default_factory=Listen)
    tls: TLS = msgspec.field(default_factory=TLS)
    databases: Databases = msgspec.field(default_factory=Databases)
    limits: Limits = msgspec.field(default_factory=Limits)
    log: Log = msgspec.field(default_factory=Log)
    archive: Archive = msgspec.field(default_factory=Archive)
    processes: Processes = msgspec.field(default_factory=Processes)
    delivery: Delivery = msgspec.field(default_factory=Delivery)
    alarms: Alarms = msgspec.field(default_factory=Alarms)
    portal: Portal = msgspec.field(default_factory=Portal)
    relay: Relay = msgspec.field(default_factory=Relay)
    dns: DNS = msgspec.field(default_factory=DNS)
    web: Web = msgspec.field(default_factory=Web)

    @property
    def root(self) -> Path:
        """The data directory."""
        return Path(self.directory)

    @property
    def socket(self) -> Path:
        """The UNIX socket that the command line talks to."""
        return self.root / "hornetmail.sock"

    def path(self, text: str) -> Path:
        """A path of the file, from the data directory."""
        return self.root / text

    def database_url(self, name: str) -> str:
        """Of ``control``, ``queue``, ``portal``, ``recipients`` or ``archive``."""
        chosen: str = getattr(self.databases, name, "")
        return chosen or f"sqlite://{quote(str(self.root / f'{name}.db'))}"

    def may_login_plainly(self, peer: str) -> bool:
        """Whether a client at that IP address may send a password without TLS."""
        if self.plaintext_login != "loopback":
            return self.plaintext_login
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def load(path: str | Path) -> Config:
    """Read and check the file. Raises ConfigError, like ``hornetmail.toml: $.listen.mx[0]: …``."""
    file = Path(path)
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    return read(values, file.absolute().parent, str(path))


def read(values: dict[str, Any], base: Path, name: str = "hornetmail.toml") -> Config:
    """Check values as ``tomllib`` gives them; ``base`` is where a relative data directory counts from. Raises ConfigError."""
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        text, found, where = str(error).partition(" - at `")
        raise ConfigError(f"{name}: {where.rstrip('`') if found else '$'}: {text}") from None
    config = msgspec.structs.replace(config, directory=str((base / config.directory).resolve()))
    for where, problem in _problems(config):
        raise ConfigError(f"{name}: {where}: {problem}")
    return config


def _problems(config: Config) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    try:
        fold_domain(config.hostname)
    except AddressError as error:
        found.append(("$.hostname", str(error)))
    for door in DOORS:
        for place, endpoint in enumerate(config.listen.door(door)):
            if problem := _endpoint_problem(endpoint):
                found.append((f"$.listen.{door}[{place}]", problem))
    for where, networks in (("$.relay.networks", config.relay.networks), ("$.web.proxies", config.web.proxies)):
        for place, network in enumerate(networks):
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                found.append((f"{where}[{place}]", str(error)))
    for place, server in enumerate(config.dns.servers):
        try:
            dns_server(server)
        except ValueError as error:
            found.append((f"$.dns.servers[{place}]", str(error)))
    found += _key_problems(config.archive.key)
    delivery = config.delivery
    for name in ("retry_most", "give_up"):
        if getattr(delivery, name) < delivery.retry:
            found.append((f"$.delivery.{name}", f"{getattr(delivery, name):g} s are less than retry, {delivery.retry:g} s"))
    for database in ("control", "queue", "portal", "recipients"):
        url = getattr(config.databases, database)
        if url and not url.startswith(("sqlite:///", "postgresql://")):
            found.append((f"$.databases.{database}", f"{url!r} is neither sqlite:///PATH nor postgresql://…"))
    return found


def _key_problems(key: ArchiveKey) -> list[tuple[str, str]]:
    where = f"$.archive.key.{key.source}"
    name = key.credential
    if name and (name in (".", "..") or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name)):
        return [("$.archive.key.credential", f"{name!r} is no name of a credential: letters, digits, '.', '_' and '-'")]
    if key.command and not key.command[0].startswith("/"):
        return [("$.archive.key.command[0]", f"{key.command[0]!r}: write the whole path of the program")]
    if key.source in ("credential", "command") and not getattr(key, key.source):
        return [(where, f"it is missing, and $.archive.key.source says {key.source!r}")]
    return []


def _endpoint_problem(endpoint: str) -> str:
    kind, _, rest = endpoint.partition(":")
    if kind not in _KINDS:
        return f"{endpoint!r} is no endpoint: write tcp:PORT, or tcp:PORT:interface=ADDRESS"
    if kind.startswith("tcp"):
        port = rest.partition(":")[0].removeprefix("port=")
        if not (port.isascii() and port.isdigit()) or int(port) > 65535:
            return f"{endpoint!r}: {port!r} is no port"
    elif not rest:
        return f"{endpoint!r}: something is missing behind {kind}:"
    return ""


def dns_server(text: str) -> tuple[str, int]:
    """``ADDRESS``, ``ADDRESS:PORT`` or ``[IPv6]:PORT`` as address and port (53). Raises ValueError."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":") or "53"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r}: {port!r} is no port")
    return str(ipaddress.ip_address(host)), int(port)


_DEFAULT = """\
# HornetMail. What is needed to start; domains, people and policies are in the database and change while it runs.
# Relative paths count from the data directory. Check a changed file with: hornetmail -c FILE check-config

hostname = {hostname}
# The data directory, from the place of this file.
directory = "."

# Passwords without TLS: false, "loopback" (from this machine only) or true.
plaintext_login = {plaintext}

# Twisted endpoint strings. An empty list, or no line, closes a door. submissions, imaps, pop3s and https speak TLS from the first byte.
# All IPv6 and IPv4 addresses at once: "tcp:25:interface=\\\\:\\\\:". Behind a proxy that speaks the PROXY protocol: "haproxy:tcp:25".
[listen]
{listen}

# The certificate with its chain, and its key. SIGHUP reads them again.
[tls]
certificate = "tls/cert.pem"
key = "tls/key.pem"

# Empty or absent: SQLite files in the data directory. Otherwise sqlite:///absolute/path or postgresql://user@host/name.
[databases]
# control = ""
# queue = ""
# portal = ""
# recipients = ""

[limits]
# Bytes of a message; at most {most}, which is what the archive takes.
max_size = {limits.max_size}
# Connections of a door, and of one address (IPv6: one /64) at a door.
connections = {limits.connections}
per_ip = {limits.per_ip}
# Recipients of a transaction.
recipients = {limits.recipients}
# Mistakes until a connection is closed; an accepted message makes up for them.
errors = {limits.errors}
# Recipients refused as unknown until a stranger's connection is closed, and in an hour from one address (IPv6: one /64) until it is closed after
# the first. Before that the answers come more and more slowly. Hosts that may relay, and primaries, are not counted.
unknown_recipients = {limits.unknown_recipients}
unknown_per_network = {limits.unknown_per_network}
# Above this share of the disk in use, new mail is told to come later (452).
disk_percent = {limits.disk_percent}
# More Received lines than this: the message goes in circles.
hops = {limits.hops}
# Messages of the queue that are kept whole in memory, about 2 KB each. Of the others it keeps about 300 bytes, and reads the rest from disk when they are due.
messages_in_memory = {limits.messages_in_memory}

# Empty: standard output. SIGHUP opens the file anew. level: debug, info, warn or error.
[log]
file = ""
level = "info"

# The first medium of the archive. The mail lies only there: back it up.
[archive]
medium = "archive/medium"
# Seconds that mail waits in the local staging pack until it goes to the medium.
seal_seconds = {archive.seal_seconds:g}
# Retention asks before more than this goes at once: percent of all mails, or that many mails, whichever is more.
purge_percent = {archive.purge_percent:g}
purge_floor = {archive.purge_floor}

# What the archive's key lies under between two starts: "file" (nothing: keys/archive-root.key), "passphrase" (typed after each start: hornetmail archive
# unlock), "credential" (its name, LoadCredentialEncrypted= of systemd) or "command" (program and arguments; what it prints, within so many seconds).
[archive.key]
source = "file"
# credential = "archive-key"
# command = ["/usr/local/bin/archive-secret"]
# seconds = 10

# Processes beside this one. What they read comes from strangers: each has its own memory, no file and no network.
[processes]
# So many read the files that hang on archived mail (PDF, office files, what is packed), for the search; 0: none.
files = {processes.files}
# Of each: megabytes of address space, and seconds of the processor that one file may take. What takes more is named at the mail as not searched.
memory_mb = {processes.memory_mb}
seconds = {processes.seconds:g}

# Seconds.
[delivery]
# Time-outs towards other servers: connecting, the reply to a command, to DATA (and to take a piece of text), after the final dot.
connect = {delivery.connect:g}
reply = {delivery.reply:g}
data = {delivery.data:g}
dot = {delivery.dot:g}
# Until the second attempt; doubled each time, up to retry_most. After give_up, mail goes back to its sender.
retry = {delivery.retry:g}
retry_most = {delivery.retry_most:g}
give_up = {delivery.give_up:g}

# Seconds between two looks at what is wrong and who is to be told, and after which an alarm from before a restart that was not
# raised again has ended. Who is told: hornetmail alarms settings, and second addresses of administrators.
[alarms]
look = {alarms.look:g}
confirm = {alarms.confirm:g}

# So many days before what an emergency left in the portal's folders is removed, its owner gets a mail. When that is, each domain says.
[portal]
announce_days = [{announced}]

# Networks that may send for any served domain through the relay door, without a password. Domains name further ones of their own.
[relay]
networks = ["127.0.0.0/8", "::1/128"]

# Empty: the servers of /etc/resolv.conf. Otherwise "192.0.2.53" or "192.0.2.53:5353".
[dns]
servers = []

# Networks of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
[web]
proxies = []
# The path that they show the site under: "/archive" for https://host/archive/. Empty: the whole host.
prefix = ""
"""


_NOT_IN_BROWSERS = frozenset(
    (1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080)
)
"""Ports above 1023 that browsers open no page at (the "bad ports" of the Fetch standard)."""


def default_listen(ports: int | None) -> Listen:
    """The doors of a new installation: the standard ports, or all on loopback from ``ports`` on. Raises ConfigError."""
    if ports is None:
        return Listen(
            **{
                door: (f"tcp:{port}" + (":interface=127.0.0.1" if door in _LOCAL_DOORS else ""),)
                for door, port in STANDARD_PORTS.items()
            }
        )
    if not 0 <= ports <= 65535 - max(STANDARD_PORTS.values()):
        raise ConfigError(f"--ports {ports}: from 0 to {65535 - max(STANDARD_PORTS.values())}")
    for port in (80, 443):
        if ports + port in _NOT_IN_BROWSERS:
            raise ConfigError(f"--ports {ports}: browsers open no page at port {ports + port}; take another number")
    return Listen(**{door: (f"tcp:{ports + port}:interface=127.0.0.1",) for door, port in STANDARD_PORTS.items()})


def write_default(directory: str | Path, hostname: str, ports: int | None = None) -> str:
    """The text of ``hornetmail.toml`` for a new data directory, with comments. ``ports``: everything on loopback, from that number on, and
    plaintext log-in allowed there. Raises ConfigError."""
    listen = default_listen(ports)
    lines = [f"{door} = [{', '.join(_quoted(one) for one in listen.door(door))}]" for door in DOORS]
    text = _DEFAULT.format(
        hostname=_quoted(hostname),
        plaintext="false" if ports is None else '"loopback"',
        listen="\n".join(lines),
        limits=Limits(),
        alarms=Alarms(),
        most=MAX_MAIL,
        archive=Archive(),
        processes=Processes(),
        delivery=Delivery(),
        announced=", ".join(f"{days:g}" for days in Portal().announce_days),
    )
    read(tomllib.loads(text), Path(directory).absolute())
    return text


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
