"""Files from their public source, or from a folder of the user's."""

import hashlib
import http.client
import json
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..common.errors import UserError
from ..common.files import flush, write_json, write_text

__all__ = ["Source", "checksum", "fetch", "identity"]

CHUNK = 1 << 16
TIMEOUT = 60  # seconds without a byte
RANGE_NOT_SATISFIABLE = http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


@dataclass(frozen=True)
class Source:
    """A file to have.

    Args:
        name: of the file.
        url: its public address; none for the user's own.
        checksum: as published, "md5:…" or "sha256:…", if it is.
        tried: whether the address has been seen to work.
    """

    name: str
    url: str | None
    checksum: str | None = None
    tried: bool = False


def checksum(file: Path, kind: str = "sha256") -> str:
    """The kind, a colon and the digest in hexadecimal."""
    with file.open("rb") as stream:
        return f"{kind}:{hashlib.file_digest(stream, kind).hexdigest()}"


def fetch(source: Source, folder: Path, local: Path | None, say: Callable[[str], None]) -> Path:
    """The file: that of ``local`` if given, else ``folder``'s, downloaded there if need be.

    An interrupted download goes on where it stopped, if the server can say that it is the same file still. A checksum
    that is not published is recorded in ``folder/checksums.json`` when the file is first seen, and must stay the same.

    Raises:
        UserError: the file is not there, cannot be had, or is another one.
    """
    file = (local or folder) / source.name
    if not file.is_file():
        if source.url is None:
            raise UserError(f"{file} is missing: give --from FOLDER with {source.name} in it")
        if local is not None:
            raise UserError(f"{file} is missing: put there what {source.url} is, or leave out --from")
        say(f"downloading {source.url}" + ("" if source.tried else " (an address that has not been tried)"))
        _download(source, file)
    _check(source, file, folder / "checksums.json")
    return file


def _download(source: Source, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part, version = (file.with_name(file.name + suffix) for suffix in (".part", ".part.version"))
    start = part.stat().st_size if part.exists() and version.exists() else 0
    headers = {"Range": f"bytes={start}-", "If-Range": version.read_text("utf-8")} if start else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(source.url, headers=headers), timeout=TIMEOUT
        ) as answer:
            resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
            if not resumed:
                version.unlink(missing_ok=True)
                part.write_bytes(b"")
                if (known := _version(answer.headers)) is not None:
                    write_text(version, known)
            done = start if resumed else 0
            left = answer.headers.get("Content-Length")
            size = done + int(left) if left else None
            with (
                part.open("ab") as stream,
                tqdm(total=size, initial=done, unit="B", unit_scale=True, desc=source.name) as bar,
            ):
                while chunk := answer.read(CHUNK):
                    stream.write(chunk)
                    done += len(chunk)
                    bar.update(len(chunk))
        if size is not None and done < size:
            raise OSError(f"{done} of {size} bytes came")
    except (OSError, http.client.HTTPException) as error:
        if start and getattr(error, "code", None) == RANGE_NOT_SATISFIABLE:
            part.unlink()  # there is no more than has come
            _download(source, file)
            return
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{source.url} cannot be downloaded ({reason}): try again, or put {source.name} there as {file}"
        ) from error
    flush(part)
    part.rename(file)
    version.unlink(missing_ok=True)


def _version(headers: Mapping[str, str]) -> str | None:
    """What a server calls this state of the file, for If-Range, which takes no weak tags."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _check(source: Source, file: Path, record: Path) -> None:
    known = _known(record)
    expected = source.checksum or known.get(source.name)
    found = checksum(file, expected.partition(":")[0] if expected else "sha256")
    # a public file is what it was when it was first seen; the user's own may change
    if expected is None or not (source.url or source.checksum):
        write_json(record, dict(sorted({**known, source.name: found}.items())))
    elif found != expected:
        origin, remedy = "published", ""
        if not source.checksum:
            origin, remedy = f"recorded in {record}", ", or remove its line there if that was the wrong one"
        raise UserError(f"{file} is {found}, and {expected} is {origin}: get the right file{remedy}")


def _known(record: Path) -> Mapping[str, str]:
    if not record.is_file():
        return {}
    try:
        return dict(json.loads(record.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{record} cannot be read: remove it, and checksums are recorded anew") from error


def identity(source: Source, folder: Path, local: Path | None, say: Callable[[str], None]) -> str:
    """The checksum of the file: of that which is there, else as it was recorded, else of what is downloaded.

    Raises:
        UserError: as :func:`fetch`.
    """
    record = folder / "checksums.json"
    if not ((local or folder) / source.name).is_file() and local is None and source.name in _known(record):
        return _known(record)[source.name]
    fetch(source, folder, local, say)
    return source.checksum or _known(record)[source.name]
