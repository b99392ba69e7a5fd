"""Plain sentences to what a model sees, word by word: Moses' tokens, lower case, pairs of a fit length."""

import functools
import itertools
import multiprocessing
import unicodedata
from collections.abc import Iterable, Iterator

from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer

__all__ = ["Text", "fits"]

CHUNK = 500


@functools.cache
def _tools(lang: str) -> tuple[MosesPunctNormalizer, MosesTokenizer, MosesDetokenizer]:
    return MosesPunctNormalizer(lang), MosesTokenizer(lang), MosesDetokenizer(lang)


class Text:
    """How the text of one language is written for the model, and read back.

    Args:
        lang: its code, for Moses' rules.
        drop: characters that are left out, with the spaces that this makes superfluous.
        nfc: whether letters and accents that follow them become one character (Unicode's NFC).
        moses: whether it is split into Moses' tokens.
        normalise: whether Moses normalises the punctuation before.
        split_hyphens: Moses' ``-a``: "two-part" becomes "two @-@ part".
        lowercase: whether case is lost.
    """

    def __init__(
        self,
        lang: str,
        drop: str = "",
        nfc: bool = False,
        moses: bool = False,
        normalise: bool = False,
        split_hyphens: bool = False,
        lowercase: bool = False,
    ):
        self.lang, self.drop, self.nfc = lang, drop, nfc
        self.moses, self.normalise = moses, normalise
        self.split_hyphens, self.lowercase = split_hyphens, lowercase

    def tokens(self, line: str) -> str:
        """A plain sentence as the model sees it, before sub-words."""
        normaliser, tokeniser, _ = _tools(self.lang)
        if self.nfc:
            line = unicodedata.normalize("NFC", line)
        if self.drop:
            line = " ".join(line.translate(dict.fromkeys(map(ord, self.drop), " ")).split())
        if self.normalise:
            line = normaliser.normalize(line)
        if self.moses:
            line = tokeniser.tokenize(line, aggressive_dash_splits=self.split_hyphens, return_str=True)
        return line.lower() if self.lowercase else line

    def plain(self, tokens: str) -> str:
        """A translation as people write it, but for a case that was lost."""
        return _tools(self.lang)[2].detokenize(tokens.split()) if self.moses else tokens

    def all_tokens(self, lines: Iterable[str], workers: int) -> Iterator[str]:
        """Of many lines, in their order, in several processes."""
        if workers == 1:
            yield from map(self.tokens, lines)
            return
        # not forked: the caller may run threads
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            # a chunk at a time for each process, so that a corpus is never in memory as a whole
            lines = iter(lines)
            while batch := list(itertools.islice(lines, CHUNK * workers * 4)):
                yield from pool.map(self.tokens, batch, CHUNK)


def fits(source: str, target: str, longest: int, ratio: float) -> bool:
    """Whether a pair is kept in training: both sides of 1 to ``longest`` words, neither ``ratio`` times the other's."""
    lengths = sorted((len(source.split()), len(target.split())))
    return lengths[0] >= 1 and lengths[1] <= longest and lengths[1] <= ratio * lengths[0]
