"""Real servers for media: a private samba, and moto as an object store."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3

USER = "root"
PASSWORD = "share-secret-1"
BUCKET = "archive-bucket"
LOCKED_BUCKET = "locking-bucket"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, seconds: float = 30.0) -> None:
    """Wait until somebody listens there."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < end, f"nobody listens on {port}"
        time.sleep(0.05)


class Process:
    """A server of ours, its children included."""

    def __init__(self, command: list[str], port: int, log: Path, env: dict[str, str] | None = None) -> None:
        self.command, self.port, self.log, self.env = command, port, log, env
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, env=self.env
            )
        answers(self.port)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def samba(top: Path) -> Iterator[tuple[Process, Path]]:
    """smbd on a high port, with one share; the process, and the share's directory."""
    smbd = shutil.which("smbd") or "/usr/sbin/smbd"
    share = top / "share"
    for name in ("share", "state", "lock", "cache", "pid", "private", "ncalrpc"):
        (top / name).mkdir(parents=True)
    port = free_port()
    conf = top / "smb.conf"
    directories = "".join(
        f"  {option} = {top / name}\n"
        for option, name in (
            ("state directory", "state"), ("lock directory", "lock"), ("cache directory", "cache"), ("pid directory", "pid"),
            ("private dir", "private"), ("ncalrpc dir", "ncalrpc"),
        )
    )  # fmt: skip
    conf.write_text(
        "[global]\n"
        f"{directories}"
        f"  smb ports = {port}\n  interfaces = 127.0.0.1\n  bind interfaces only = yes\n  disable netbios = yes\n"
        "  server min protocol = SMB2\n  load printers = no\n  server role = standalone server\n  map to guest = never\n"
        f"  log file = {top / 'log'}\n  log level = 0\n  passdb backend = tdbsam:{top / 'private' / 'passdb.tdb'}\n"
        f"[media]\n  path = {share}\n  read only = no\n"
    )
    subprocess.run(
        ["smbpasswd", "-c", str(conf), "-s", "-a", USER],
        input=f"{PASSWORD}\n{PASSWORD}\n".encode(),
        check=True,
        capture_output=True,
    )
    process = Process([smbd, "-F", "--no-process-group", "-s", str(conf)], port, top / "out")
    try:
        yield process, share
    finally:
        process.stop()


def client(name: str, port: int, key_id: str, secret: str) -> Any:
    """Amazon's own client."""
    return boto3.client(
        name,
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
    )


def begin_upload(port: int, key_id: str, secret: str, name: str) -> None:
    """The first part of an upload in parts that never ends."""
    s3 = client("s3", port, key_id, secret)
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=name)["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key=name, UploadId=upload, PartNumber=1, Body=b"half")
    s3.close()


def put_object(port: int, key_id: str, secret: str, name: str) -> None:
    """An object of somebody else's."""
    s3 = client("s3", port, key_id, secret)
    s3.put_object(Bucket=BUCKET, Key=name, Body=b"other")
    s3.close()


def locked_until(port: int, key_id: str, secret: str, name: str) -> float:
    """Until when the store keeps an object, Unix seconds."""
    s3 = client("s3", port, key_id, secret)
    until: float = s3.head_object(Bucket=LOCKED_BUCKET, Key=name)["ObjectLockRetainUntilDate"].timestamp()
    s3.close()
    return until


@contextlib.contextmanager
def object_store(top: Path) -> Iterator[tuple[Process, str, str]]:
    """moto's server with two buckets, one of which can lock objects, that checks every signature; and a user's key."""
    top.mkdir(parents=True, exist_ok=True)
    port = free_port()
    process = Process([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, top / "moto.log")
    try:
        s3, iam = (client(name, port, "any", "any") for name in ("s3", "iam"))
        s3.create_bucket(Bucket=BUCKET)
        s3.create_bucket(Bucket=LOCKED_BUCKET, ObjectLockEnabledForBucket=True)
        iam.create_user(UserName="archive")
        policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
        iam.put_user_policy(UserName="archive", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="archive")["AccessKey"]
        s3.close()
        iam.close()
        urlopen(
            Request(
                f"http://127.0.0.1:{port}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}, method="POST"
            )
        ).close()
        yield process, key["AccessKeyId"], key["SecretAccessKey"]
    finally:
        process.stop()
