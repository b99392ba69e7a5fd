"""Memory that batches write to one after another."""

import ctypes
import weakref

from .library import loaded

__all__ = ["Space"]


class Space:
    """Of one batch at a time; the next one writes to it again. Fresh pages cost more than what is written to them."""

    def __init__(self) -> None:
        library = loaded("step")
        library.search_new.restype = ctypes.c_void_p
        for name in ("encode", "search_begin", "search_go", "search_ends", "search_sizes", "search_held"):
            getattr(library, name).restype = ctypes.c_int64
        self.handle = ctypes.c_void_p(library.search_new())
        if not self.handle:
            raise MemoryError
        weakref.finalize(self, library.search_free, self.handle)

    def held(self) -> int:
        """Bytes: as many as the largest batch so far has wanted."""
        return int(loaded("step").search_held(self.handle))

    @staticmethod
    def check(found: int) -> int:
        """What a function of the library has returned.

        Raises:
            MemoryError: if there was too little.
            IndexError: for a number in the source that is no word.
        """
        if found == -1:
            raise MemoryError
        if found == -2:
            raise IndexError("a word of the source is none of the dictionary's")
        return found
