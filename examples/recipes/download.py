"""Files from their public source, or from a folder of the user's."""

import hashlib
import http.client
import json
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from skipln_fairseq.errors import UserError

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

    An interrupted download goes on where it stopped. A checksum that is not published is recorded in
    ``folder/checksums.json`` when the file is first seen, and must stay the same.

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
    part = file.with_name(file.name + ".part")
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(source.url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumed = answer.status == 206
            done = start if resumed else 0
            left = answer.headers.get("Content-Length")
            size = done + int(left) if left else None
            with (
                part.open("ab" if resumed else "wb") as stream,
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
            part.unlink()  # there is no more than has come, or it is another file by now
            _download(source, file)
            return
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{source.url} cannot be downloaded ({reason}): try again, or put {source.name} into a folder and "
            f"give --from FOLDER"
        ) from error
    part.rename(file)


def _check(source: Source, file: Path, record: Path) -> None:
    known = _known(record)
    expected = source.checksum or known.get(source.name)
    found = checksum(file, expected.partition(":")[0] if expected else "sha256")
    # a public file is what it was when it was first seen; the user's own may change
    if expected is None or not (source.url or source.checksum):
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({**known, source.name: found}, indent=1, sort_keys=True) + "\n", "utf-8")
    elif found != expected:
        origin, remedy = "published", ""
        if not source.checksum:
            origin, remedy = f"recorded in {record}", ", or remove its line there if that was the wrong one"
        raise UserError(f"{file} is {found}, and {expected} is {origin}: get the right file{remedy}")


def _known(record: Path) -> Mapping[str, str]:
    return json.loads(record.read_text("utf-8")) if record.is_file() else {}


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
