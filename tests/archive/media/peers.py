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


def versions(port: int, key_id: str, secret: str, name: str) -> list[str]:
    """What the locking bucket keeps of an object: ``version`` and ``marker``, sorted."""
    s3 = client("s3", port, key_id, secret)
    kept = s3.list_object_versions(Bucket=LOCKED_BUCKET, Prefix=name)
    found = [("version", one["Key"]) for one in kept.get("Versions", ())]
    found += [("marker", one["Key"]) for one in kept.get("DeleteMarkers", ())]
    s3.close()
    return sorted(kind for kind, key in found if key == name)


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


SWIFT_KEY = ("test:tester", "swift-secret-1")

_SWIFT = """
import sys
import swift.common.utils as utils
utils.SWIFT_CONF_FILE = sys.argv[1] + "/swift.conf"
from swift.common.wsgi import run_wsgi
sys.exit(run_wsgi(sys.argv[1] + "/" + sys.argv[2] + ".conf", sys.argv[2]))
"""


@contextlib.contextmanager
def swift(top: Path) -> Iterator[Process]:
    """OpenStack Swift with its S3 face, one of each server, on a directory that keeps extended attributes; the proxy's process."""
    top.mkdir(parents=True, exist_ok=True)
    (top / "launch.py").write_text(_SWIFT)
    (top / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = tests\nswift_hash_path_prefix = tests\n"
        "[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    (top / "disks" / "d1").mkdir(parents=True)
    user = "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")
    common = f"bind_ip = 127.0.0.1\nswift_dir = {top}\ndevices = {top}/disks\nmount_check = false\nworkers = 0\nuser = {user}\n"
    common += f"disable_fallocate = true\nlog_statsd_host =\nrecon_cache_path = {top}\nlog_address = {top}/no-log\n"
    ports = {kind: free_port() for kind in ("account", "container", "object", "proxy")}
    running: list[Process] = []
    try:
        for kind in ("account", "container", "object"):
            builder = top / f"{kind}.builder"
            for words in (
                ("create", "4", "1", "0"),
                ("add", f"r1z1-127.0.0.1:{ports[kind]}/d1", "1"),
                ("rebalance", "--seed", "1"),
            ):
                subprocess.run(["swift-ring-builder", builder, *words], check=False, capture_output=True, cwd=top, timeout=60)
            app = f"[app:{kind}-server]\nuse = egg:swift#{kind}\n"
            (top / f"{kind}-server.conf").write_text(
                f"[DEFAULT]\nbind_port = {ports[kind]}\n{common}[pipeline:main]\npipeline = {kind}-server\n{app}"
            )
        (top / "proxy-server.conf").write_text(
            f"[DEFAULT]\nbind_port = {ports['proxy']}\n{common}"
            "[pipeline:main]\npipeline = catch_errors cache listing_formats s3api tempauth copy slo dlo versioned_writes symlink proxy-server\n"
            "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
            f"[filter:tempauth]\nuse = egg:swift#tempauth\nuser_test_tester = {SWIFT_KEY[1]} .admin\n"
            "[filter:s3api]\nuse = egg:swift#s3api\nlocation = us-east-1\nmax_bucket_listing = 100\n"
            "[filter:cache]\nuse = egg:swift#memcache\nmemcache_servers = 127.0.0.1:1\n"
            "[filter:versioned_writes]\nuse = egg:swift#versioned_writes\nallow_object_versioning = true\n"
            + "".join(
                f"[filter:{name}]\nuse = egg:swift#{name}\n"
                for name in ("catch_errors", "listing_formats", "copy", "slo", "dlo", "symlink")
            )
        )
        for kind, port in ports.items():
            command = ["/usr/bin/python3", str(top / "launch.py"), str(top), f"{kind}-server"]
            running.append(Process(command, port, top / f"{kind}.log"))
        s3 = client("s3", ports["proxy"], *SWIFT_KEY)
        s3.create_bucket(Bucket=BUCKET)
        s3.close()
        yield running[-1]
    finally:
        for process in running:
            process.stop()
