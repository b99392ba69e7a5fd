"""``fairseq-preprocess`` says how far it has come.

Without it a corpus of millions of lines is binarised for minutes or hours without a word. fairseq passes over a text
twice, to count words and to number them, each time in parts that processes read; their sum is what is told.
"""

import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from typing import Any

from fairseq import binarizer
from fairseq.data import dictionary
from fairseq.file_chunker_utils import ChunkLineIterator

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]

SECONDS = 10
"""Between two lines, and before the first: a small corpus has none."""

LINES = 1000
"""After so many lines a process adds what it has read."""

logger = logging.getLogger("fairseq_cli.preprocess")


class _Pass:
    """How much of a text is read in this pass, counted over the processes that fairseq forks."""

    def __init__(self) -> None:
        self.name, self.size = "", 0
        self.read = multiprocessing.Value("q", 0)
        self.told = multiprocessing.Value("d", 0.0)

    def begin(self, name: str) -> None:
        self.name, self.size = name, os.path.getsize(name)
        self.read.value, self.told.value = 0, time.monotonic()

    def add(self, count: int) -> None:
        with self.read.get_lock():
            self.read.value += count
            read = self.read.value
        with self.told.get_lock():
            now = time.monotonic()
            if now < self.told.value + SECONDS:
                return
            self.told.value = now
        logger.info(f"{self.name}: {min(100, 100 * read // max(self.size, 1))} % read")


def apply() -> None:
    """Count the lines of ``ChunkLineIterator``; each pass begins with ``find_offsets``."""
    current = _Pass()

    for module in (binarizer, dictionary):

        @around(module, "find_offsets")
        def find_offsets(stock, filename: str, num_chunks: int) -> list[int]:
            current.begin(filename)
            return stock(filename, num_chunks)

    @around(ChunkLineIterator, "__iter__")
    def lines(stock, self: Any) -> Iterator[str]:
        size = 0
        for number, line in enumerate(stock(self), start=1):
            yield line
            size += len(line.encode("utf-8"))
            if number % LINES == 0:
                current.add(size)
                size = 0
