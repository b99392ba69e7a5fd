"""Sentences out of the files that corpora come in.

A file is named by its path, below an archive's name if it lies in one: ``de-en.tgz/de-en/train.tags.de-en.de``. Its
last suffixes say how it is read:

* ``.sgm``, ``.xml``: the ``<seg>`` elements of NIST's mteval format, in their order,
* ``train.tags.*``: IWSLT's training files, a sentence a line between lines of tags,
* anything else: plain text, a sentence a line.

``.gz`` comes off first. ``#11-20`` at the end takes these lines alone, counted from 1; ``#21-`` all from there.
"""

import html
import io
import itertools
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from ..common.errors import UserError
from ..common.unpack import members, unpacked

__all__ = ["lines_of", "read"]

SLICE = re.compile(r"(.*?)(?:#(\d+)-(\d*))?")
ARCHIVES = (".tgz", ".tar.gz", ".tar")
SEGMENT = re.compile(r"<(/?)seg\b[^<>]*?(/?)>", re.IGNORECASE)
LONGEST_LINE = 1 << 20  # characters: no sentence is as long, and what is could fill the memory
LONGEST_FILE = 1 << 24  # of those that are read as a whole: test sets
# of a talk, and no sentences of it
ABOUT = re.compile(r"\s*<(url|talkid|keywords|speaker|reviewer|translator|doc|/doc)\b", re.IGNORECASE)
TITLE = re.compile(r"</?(title|description)>", re.IGNORECASE)


def _segments(stream: IO[str]) -> Iterator[str]:
    """In time that grows with the file's length alone: from tag to tag, without a look ahead."""
    text = stream.read(LONGEST_FILE + 1)
    if len(text) > LONGEST_FILE:
        raise ValueError(f"more than {LONGEST_FILE} characters")
    start = None
    for tag in SEGMENT.finditer(text):
        closes, empty = tag[1], tag[2]
        if (start is None) == bool(closes):
            line = text.count("\n", 0, tag.start()) + 1
            raise ValueError(
                f"line {line}: {tag[0][:20]} where a <seg> is {'not open' if closes else 'open'}"
            )
        if closes or empty:
            yield " ".join(html.unescape(text[start : tag.start()] if closes else "").split())
        start = None if closes or empty else tag.end()
    if start is not None:
        raise ValueError("a <seg> is open at its end")


def _lines(stream: IO[str]) -> Iterator[str]:
    for number in itertools.count(1):
        line = stream.readline(LONGEST_LINE + 1)
        if len(line) > LONGEST_LINE:
            raise ValueError(f"line {number} has more than {LONGEST_LINE} characters")
        if not line:
            return
        yield line


def _tagged(stream: IO[str]) -> Iterator[str]:
    """Titles and descriptions are sentences too."""
    for line in _lines(stream):
        if not ABOUT.match(line):
            yield TITLE.sub("", line).strip()


def _plain(stream: IO[str]) -> Iterator[str]:
    for line in _lines(stream):
        yield line.rstrip("\n").strip()


def _reader(name: str) -> Callable[[IO[str]], Iterator[str]]:
    if name.endswith((".sgm", ".xml")):
        return _segments
    return _tagged if name.startswith("train.tags.") else _plain


def lines_of(stream: IO[bytes], name: str) -> Iterator[str]:
    """The sentences of an open file called ``name``."""
    if name.endswith(".gz"):
        stream, name = unpacked(stream), name.removesuffix(".gz")
    # only \n ends a line: corpora hold other characters that Python takes for ends
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="\n")
    for line in _reader(name)(text):
        yield line.replace("\r", " ")  # which ends one for fairseq-preprocess


def read(path: str, find: Callable[[str], Path]) -> Iterator[str]:
    """The sentences of the file that ``path`` names; ``find`` gives the file, or archive, of a name.

    Raises:
        UserError: an archive has no such file, or something is damaged, not UTF-8, or beyond all that a corpus holds.
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
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:
        raise UserError(f"{file}: {path}: {' '.join(str(error).split())}") from error


def _file(file: Path) -> Iterator[str]:
    with file.open("rb") as stream:
        yield from lines_of(stream, file.name)


def _member(archive: Path, name: str) -> Iterator[str]:
    for found, stream in members(archive, lambda each: each.removeprefix("./") == name):
        yield from lines_of(stream, PurePosixPath(found).name)
        return
    raise UserError(f"{archive} holds no {name}")
