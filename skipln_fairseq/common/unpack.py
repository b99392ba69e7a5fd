"""Packed files of others, read in a time and a memory that follow from their size, whatever they hold."""

import gzip
import io
import math
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

__all__ = ["members", "unpacked"]

GZIP = b"\x1f\x8b"
# Text is packed to a fifth of its size, and images hardly; gzip can reach a thousandth, but only of one byte.
RATIO = 100
SMALL = 1 << 26  # bytes that any file may unpack to
BLOCK = 1 << 16


def unpacked(packed: IO[bytes]) -> IO[bytes]:
    """What gzip has packed in an open file.

    Raises (as it is read):
        OSError: it unpacks to more than a hundred times its size, and so holds nothing of use; or it is damaged, as
            EOFError and zlib.error say, too.
    """
    file = gzip.GzipFile(fileobj=packed)
    return io.BufferedReader(_Once(file.read, lambda: SMALL + RATIO * packed.tell()), BLOCK)


class _Once(io.RawIOBase):
    """What ``read`` gives, from beginning to end, while it is no more than ``most`` says."""

    def __init__(self, read: Callable[[int], bytes], most: Callable[[], float] = lambda: math.inf):
        super().__init__()
        self.read_some, self.most, self.done = read, most, 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.done

    def readinto(self, buffer: memoryview) -> int:
        some = self.read_some(len(buffer))
        buffer[: len(some)] = some
        self.done += len(some)
        if self.done > self.most():
            raise OSError(f"it unpacks to more than {RATIO} times its size")
        return len(some)


def members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of a tar archive, packed by gzip or not, whose names are wanted: name and content, to be read at once.

    Nothing is written to disk. Only plain files are read: a link, folder or device has no content of its own, and a
    sparse file can be of any size.

    Raises (as it goes on):
        OSError, EOFError, zlib.error, tarfile.TarError: the archive is damaged, or what is wanted no plain file.
    """
    with archive.open("rb") as file:
        magic = file.read(len(GZIP))
        file.seek(0)
        stream = unpacked(file) if magic == GZIP else file
        # "|": in one go from beginning to end
        with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK) as tar:
            for member in iter(tar.next, None):
                tar.members = []  # which else would hold all of the archive's names
                if wanted(member.name):
                    if not member.isreg() or member.issparse():
                        raise tarfile.TarError(f"{member.name} is no plain file in it")
                    # not as it is: before Python 3.12 no text can be read from it
                    yield member.name, io.BufferedReader(_Once(tar.extractfile(member).read), BLOCK)
