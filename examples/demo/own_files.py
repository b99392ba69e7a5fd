"""The user's own corpus: two text files, line by line translations of each other."""

from pathlib import Path

from skipln_fairseq.common.errors import UserError

from .pairs import Pair

__all__ = ["read_pairs"]

LINES_PER_PAGE = 20  # neighbouring lines often come from one text, so they are held out together


def read_pairs(source: Path, target: Path) -> list[Pair]:
    """The files' lines in pairs.

    Raises:
        UserError: a file is missing or not UTF-8, has an empty line, or the two differ in length.
    """
    sources, targets = _lines(source), _lines(target)
    if len(sources) != len(targets):
        raise UserError(
            f"{source} has {len(sources)} lines and {target} has {len(targets)}: line n of one must be the "
            "translation of line n of the other"
        )
    return [
        Pair(str(number // LINES_PER_PAGE), *lines)
        for number, lines in enumerate(zip(sources, targets, strict=True))
    ]


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{file}, line {line}: not UTF-8; convert the file to UTF-8 first") from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; give two text files in UTF-8") from error
    # Not splitlines(): that also splits at characters which are no line ends to other programs.
    lines = [" ".join(line.split()) for line in text.removesuffix("\n").split("\n")]
    if empty := next((number for number, line in enumerate(lines, 1) if not line), None):
        raise UserError(f"{file}, line {empty}: empty; every line must hold a sentence")
    return lines
