"""What it takes to reach a medium of each kind (A8-A10), as it lies in the database; the secret lies beside it, sealed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class DirectorySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="directory"):
    """A local directory (A9). ``path`` empty: the one that ``hornetmail.toml`` names."""

    path: str = ""

    @property
    def where(self) -> str:
        """For people."""
        return self.path


class ShareSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="smb"):
    """An SMB share (A8). ``path``: folders in it, with ``/``. ``encrypted``: SMB 3 encryption is insisted on. The secret is the password."""

    host: Text
    share: Text
    path: str = ""
    user: str = ""
    domain: str = ""
    port: Port = 445
    encrypted: bool = False

    @property
    def where(self) -> str:
        """For people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == 445 else f":{self.port}"
        return f"//{host}{port}/{self.share}" + (f"/{self.path}" if self.path else "")


class BucketSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="s3"):
    """A bucket of any object store that speaks S3 (A10). ``style``: how the bucket is named in the URL. ``lock_days``: for how long merged packs are
    locked (0: not at all). The secret is that of ``key_id``."""

    endpoint: Text
    bucket: Text
    prefix: str = ""
    region: str = "us-east-1"
    key_id: str = ""
    style: Literal["path", "virtual"] = "path"
    lock_days: Annotated[int, msgspec.Meta(ge=0, le=36500)] = 0

    @property
    def where(self) -> str:
        """For people."""
        return f"{self.endpoint.rstrip('/')}/{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


Settings = DirectorySettings | ShareSettings | BucketSettings


class BadPlace(ValueError):
    """A place that cannot be understood; the message says why."""


def settings_for(kind: str, place: str, options: Mapping[str, object]) -> Settings:
    """From what people write: ``/path``, ``//host[:port]/share[/path]``, ``https://host[:port]/bucket[/prefix]``, and the options of the kind.
    Raises BadPlace."""
    values: dict[str, object] = {name: value for name, value in options.items() if value not in (None, "")}
    values["kind"] = kind
    if kind == "directory":
        if not place.startswith("/"):
            raise BadPlace(f"{place!r}: an absolute path is needed")
        values["path"] = place
    elif kind == "smb":
        values.update(_share(place))
    elif kind == "s3":
        values.update(_bucket(place))
    else:
        raise BadPlace(f"{kind!r}: there are media of kind directory, smb and s3")
    try:
        settings: Settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise BadPlace(str(error)) from None
    return settings


def _share(place: str) -> dict[str, object]:
    parts = place.replace("\\", "/").split("/")
    if parts[:2] != ["", ""] or len(parts) < 4 or not parts[2] or not parts[3] or ".." in parts:
        raise BadPlace(f"{place!r}: a share is written //host/share or //host/share/folder")
    host, port = parts[2], ""
    if host.startswith("["):
        host, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    found: dict[str, object] = {"host": host, "share": parts[3], "path": "/".join(part for part in parts[4:] if part)}
    if port:
        if not (port.isascii() and port.isdigit()):
            raise BadPlace(f"{place!r}: {port!r} is no port")
        found["port"] = int(port)
    return found


def _bucket(place: str) -> dict[str, object]:
    try:
        url = urlsplit(place)
        port = url.port
    except ValueError as error:
        raise BadPlace(f"{place!r}: {error}") from None
    segments = [part for part in url.path.split("/") if part]
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or not segments or port == 0:
        raise BadPlace(f"{place!r}: a bucket is written https://host/bucket or https://host/bucket/prefix")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    endpoint = f"{url.scheme}://{host}" + (f":{port}" if port else "")
    return {"endpoint": endpoint, "bucket": segments[0], "prefix": "/".join(segments[1:])}
