"""What a decoding step attends to, kept where the steps before left it."""

from typing import Any

import torch
from torch import Tensor

from ..nn.kernels.decode import Records, Workspace

__all__ = ["Beams"]

KEY = "skipln_fairseq"


class Beams:
    """The cache of one batch's decoding: keys and values stay where they are, and beams are rows of a table.

    fairseq reorders and copies all cached keys and values whenever hypotheses change places. Here a step's keys and
    values are written once; which of them a hypothesis descends from is a small table of numbers, and that is what is
    reordered. Keys and values of the source are computed and kept once a sentence.

    Attributes:
        table: (rows, positions), int32: for each row and position the row of that position's step which it
            descends from, −1 where that was padding.
        sentences: (rows,), int32: the sentence of each row; None until a source is read.
        memories: of each attention by its identity, or of the whole stack.
        workspace: of who computes whole steps.
    """

    def __init__(self, sentences: int | None = None):
        self.table: Tensor | None = None
        self.sentences = None if sentences is None else torch.arange(sentences, dtype=torch.int32)
        self.memories: dict[Any, Records] = {}
        self.workspace: Workspace | None = None
        self._step = 1
        self._padding: Tensor | None = None  # of the sentences: fairseq reorders its own with the rows
        self._source_table: Tensor | None = None

    @classmethod
    def of(cls, incremental_state: dict[str, Any]) -> "Beams":
        """The one in fairseq's incremental state, put there where there is none."""
        return incremental_state.setdefault(KEY, cls())

    @staticmethod
    def reorder_state(incremental_state: dict[str, Any], order: Tensor) -> bool:
        """Reorder the one in fairseq's incremental state, if there is one; whether nothing else is in it."""
        beams = incremental_state.get(KEY)
        if beams is not None:
            beams.reorder(order)
        return len(incremental_state) == (beams is not None)

    @staticmethod
    def begins(incremental_state: Any) -> bool:
        """Whether nothing has been decoded with this incremental state of fairseq's, or there is none."""
        if not isinstance(incremental_state, dict):
            return True
        beams = incremental_state.get(KEY)
        return len(incremental_state) == (beams is not None) and (beams is None or beams.positions == 0)

    @property
    def positions(self) -> int:
        """How many steps have begun."""
        return 0 if self.table is None else self.table.size(1)

    def state(self) -> dict[str, Any]:
        """An incremental state that begins with this."""
        return {KEY: self}

    def advance(self, rows: int, padding: Tensor | None) -> None:
        """Begin a position: each row descends from itself there.

        Args:
            rows: how many there are now.
            padding: (rows, 1), true where the newest token is padding, or None.
        """
        newest = torch.arange(rows, dtype=torch.int32)[:, None]
        if padding is not None:
            newest = newest.masked_fill(padding.bool(), -1)
        self.table = newest if self.table is None else torch.cat((self.table, newest), 1)

    def reorder(self, order: Tensor) -> None:
        """Let row i become what row ``order[i]`` was; rows may be left out or taken several times."""
        if self.table is not None:
            self.table = self.table.index_select(0, order)
        if self.sentences is not None:
            self.sentences = self.sentences.index_select(0, order)
        self._source_table = None

    def columns(self, source: Tensor, padding: Tensor | None, rows: int, beams: int) -> Tensor:
        """The source's columns, one a sentence.

        Args:
            source: (src_len, columns, dim), one column a row with equal ones for a sentence's beams, or one a sentence.
            padding: (columns, src_len), true at padding, or None.
            rows: how many there are.
            beams: of a sentence, as fairseq's ``set_beam_size`` told; 1 where it did not.
        """
        if self.sentences is None:
            self.sentences = torch.arange(rows, dtype=torch.int32) // beams
            self._step = beams if source.size(1) == rows else 1
        if self._padding is None and padding is not None:
            self._padding = padding[:: self._step].bool()
        return source[:, :: self._step]

    def source_table(self, positions: int) -> Tensor:
        """(rows, positions of the source), int32: each row's sentence, −1 at padding."""
        if self._source_table is None:
            assert self.sentences is not None
            table = self.sentences[:, None].expand(-1, positions)
            if self._padding is not None:
                table = table.masked_fill(self._padding.index_select(0, self.sentences), -1)
            self._source_table = table.contiguous()
        return self._source_table
