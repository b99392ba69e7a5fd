"""The translations that fairseq-generate prints."""

from collections.abc import Callable

__all__ = ["Translations"]


class Translations:
    """They come in the order of lengths, and are told apart by their numbers.

    Args:
        on_progress: gets how many there are, at each.
    """

    def __init__(self, on_progress: Callable[[int], object] = lambda count: None):
        self._found: dict[int, str] = {}
        self._on_progress = on_progress

    def on_line(self, line: str) -> None:
        """A line of the output; those that are no translation are left alone."""
        if line.startswith("D-"):  # number, score, text without sub-words
            number, _, text = line.rstrip("\n").split("\t")
            self._found.setdefault(int(number.removeprefix("D-")), text)  # the best of several comes first
            self._on_progress(len(self._found))

    def lines(self) -> list[str]:
        """In the test set's order."""
        return [self._found[number] for number in sorted(self._found)]
