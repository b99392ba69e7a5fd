"""Keys and values where the step that made them left them."""

from array import array

from torch import Tensor

__all__ = ["Records"]


class Records:
    """For each position a tensor of records, one a row of the step that made it: they are never copied or reordered.

    Attributes:
        key, value: where in a record they begin.
        stride: from one record to the next one of a position, in elements; the same for all.
        addresses: of each position's first record.
    """

    def __init__(self, key: int, value: int):
        self.key, self.value = key, value
        self.stride = 0
        self.addresses = array("Q")
        self._tensors: list[Tensor] = []

    def append(self, records: Tensor) -> None:
        """Add a position's: (rows of that step, width), the features of a row one after another."""
        self.stride = records.stride(0)
        self.addresses.append(records.data_ptr())
        self._tensors.append(records)

    def __len__(self) -> int:
        return len(self._tensors)
