"""Sentences out of the files that corpora come in.

A file is named by its path, below an archive's name if it lies in one: ``de-en.tgz/de-en/train.tags.de-en.de``. Its
last suffixes say how it is read:

* ``.sgm``, ``.xml``: the ``<seg>`` elements of NIST's mteval format, in their order,
* ``train.tags.*``: IWSLT's training files, a sentence a line between lines of tags,
* anything else: plain text, a sentence a line.

``.gz`` comes off first. ``#11-20`` at the end takes these lines alone, counted from 1; ``#21-`` all from there.
"""

import gzip
import html
import io
import itertools
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from skipln_fairseq.errors import UserError

__all__ = ["lines_of", "read"]

SLICE = re.compile(r"(.*?)(?:#(\d+)-(\d*))?")
ARCHIVES = (".tgz", ".tar.gz", ".tar")
SEGMENT = re.compile(r"<seg\b[^>]*>(.*?)</seg>", re.DOTALL | re.IGNORECASE)
# of a talk, and no sentences of it
ABOUT = re.compile(r"\s*<(url|talkid|keywords|speaker|reviewer|translator|doc|/doc)\b", re.IGNORECASE)
TITLE = re.compile(r"</?(title|description)>", re.IGNORECASE)


def _segments(stream: IO[str]) -> Iterator[str]:
    for found in SEGMENT.finditer(stream.read()):
        yield " ".join(html.unescape(found[1]).split())


def _tagged(stream: IO[str]) -> Iterator[str]:
    """Titles and descriptions are sentences too."""
    for line in stream:
        if not ABOUT.match(line):
            yield TITLE.sub("", line).strip()


def _plain(stream: IO[str]) -> Iterator[str]:
    for line in stream:
        yield line.rstrip("\n").strip()


def _reader(name: str) -> Callable[[IO[str]], Iterator[str]]:
    if name.endswith((".sgm", ".xml")):
        return _segments
    return _tagged if name.startswith("train.tags.") else _plain


def lines_of(stream: IO[bytes], name: str) -> Iterator[str]:
    """The sentences of an open file called ``name``."""
    if name.endswith(".gz"):
        stream, name = gzip.GzipFile(fileobj=stream), name.removesuffix(".gz")
    # only \n ends a line: corpora hold other characters that Python takes for ends
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="\n")
    for line in _reader(name)(text):
        yield line.replace("\r", " ")  # which ends one for fairseq-preprocess


def read(path: str, find: Callable[[str], Path]) -> Iterator[str]:
    """The sentences of the file that ``path`` names; ``find`` gives the file, or archive, of a name.

    Raises:
        UserError: an archive has no such file, or something is damaged or not UTF-8.
    """
    name, first, last = SLICE.fullmatch(path).groups()
    parts = PurePosixPath(name).parts
    if not parts:
        raise UserError(f"corpus: {path!r} names no file")
    if first == "0":
        raise UserError(f"{path}: lines are counted from 1")
    file = find(parts[0])
    try:
        lines = _member(file, "/".join(parts[1:])) if parts[0].endswith(ARCHIVES) else _file(file)
        yield from itertools.islice(lines, int(first or 1) - 1, int(last) if last else None)
    except (OSError, EOFError, zlib.error, tarfile.TarError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {path}: {' '.join(str(error).split())}") from error


def _file(file: Path) -> Iterator[str]:
    with file.open("rb") as stream:
        yield from lines_of(stream, file.name)


def _member(archive: Path, name: str) -> Iterator[str]:
    with tarfile.open(archive) as tar:
        for member in tar:  # in its order: looking a name up would read all of it first
            if member.name.removeprefix("./") == name:
                yield from lines_of(tar.extractfile(member), PurePosixPath(name).name)
                return
    raise UserError(f"{archive} holds no {name}")
