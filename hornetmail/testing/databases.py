"""Fresh databases for tests, on every engine: a SQLite file, and a database in a PostgreSQL that the tests start themselves.

The server is Debian's package, private: its own data directory, a UNIX socket only, no fsync; it is started on first use and
stopped when the test process ends. As root it runs as user ``postgres``, since it refuses root.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import psycopg
import pytest

ENGINES = ("sqlite", "postgresql")
_numbers = itertools.count(1)


def binaries() -> Path | None:
    """The newest installed PostgreSQL's programs, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class PostgresServer:
    """A private server; ``url(name)`` addresses a database of it. Raises RuntimeError if PostgreSQL is not installed."""

    def __init__(self) -> None:
        programs = binaries()
        if programs is None:
            raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
        self._programs = programs
        self.home = Path(tempfile.mkdtemp(prefix="hm-pg-"))
        self._as: list[str] = []
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.home, owner.pw_uid, owner.pw_gid)
            self._as = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        data = self.home / "data"
        self._do("initdb", "-D", str(data), "-U", "hornetmail", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        with (self.home / "settings").open("w") as settings:
            settings.write("fsync=off\nfull_page_writes=off\nlisten_addresses=''\nshared_buffers=16MB\nmax_connections=50\n")
            settings.write(f"unix_socket_directories='{self.home}'\nautovacuum=off\n")
        (self.home / "settings").chmod(0o644)
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(f"include '{self.home}/settings'\n")
        self._do("pg_ctl", "-D", str(data), "-l", str(self.home / "log"), "-w", "-t", "60", "start")
        atexit.register(self.stop)

    def _do(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._programs / program), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.home, check=False, timeout=120,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout.decode(errors='replace')}")

    def url(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql://hornetmail@/{name}?host={self.home}"

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        with contextlib.closing(psycopg.connect(self.url("postgres"), autocommit=True)) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def stop(self) -> None:
        """Stop it and remove what it wrote."""
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            self._do("pg_ctl", "-D", str(self.home / "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.home, ignore_errors=True)


@lru_cache(maxsize=1)
def postgres() -> PostgresServer:
    """The one server of this test process."""
    return PostgresServer()


@contextlib.contextmanager
def fresh_url(engine: str) -> Iterator[str]:
    """The URL of a new, empty database on that engine, for tests that need no pytest fixture (trial's TestCase)."""
    if engine == "postgresql":
        yield postgres().fresh()
        return
    with tempfile.TemporaryDirectory(prefix="hm-db-") as directory:
        yield f"sqlite://{directory}/test.db"


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A pytest fixture: the URL of a fresh database, once for each engine. Import it into the test module."""
    with fresh_url(request.param) as url:
        yield url


DATABASE_URLS = database_url
