"""``fairseq-preprocess`` checks its text files before it writes a thing.

Without it a missing file or an invalid byte stops it half way and leaves a folder that looks finished, and
two sides of different length, or an empty file, are found out only in training.
"""

from argparse import Namespace
from collections.abc import Iterator

from fairseq import utils

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["apply"]


def apply() -> None:
    """Use that ``fairseq-preprocess`` hands all its flags to ``utils.import_user_module`` first."""

    @around(utils, "import_user_module")
    def import_user_module(stock, args: Namespace) -> None:
        stock(args)
        if hasattr(args, "trainpref"):
            check_texts(args)


def check_texts(args: Namespace) -> None:
    """Refuse files that are missing, empty, not UTF-8, or of different length on the two sides.

    Empty lines are accepted: fairseq keeps them as sentences of no words, the sides stay aligned, and
    training and generation run on them. Who does not want them removes the pair before.
    """
    languages = [args.source_lang] if args.only_source else [args.source_lang, args.target_lang]
    for prefix in prefixes(args):
        lengths = {}
        for language in languages:
            file = f"{prefix}.{language}" if language else prefix
            lengths[file] = count_lines(file)
        if len(set(lengths.values())) > 1:
            (source, n), (target, m) = lengths.items()
            raise UserError(f"{source} has {n} lines, but {target} {m}")


def prefixes(args: Namespace) -> Iterator[str]:
    """What fairseq will read: validation and test text can be several, joined by commas."""
    if args.trainpref:
        yield args.trainpref
    if not args.dict_only:
        for joined in (args.validpref, args.testpref):
            yield from joined.split(",") if joined else ()


def count_lines(file: str) -> int:
    """Number of lines, as fairseq splits them."""
    count = 0
    try:
        # Invalid bytes become surrogates, which no valid text holds: so the line can be named.
        with open(file, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                count += 1
                line.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{file}, line {count}: not valid UTF-8") from error
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    if count == 0:
        raise UserError(f"{file} is empty")
    return count
