"""Text files, a sentence a line."""

from pathlib import Path

from ..common.errors import UserError

__all__ = ["read_lines"]


def read_lines(file: Path) -> list[str]:
    """The lines of a UTF-8 file, with or without a mark in front. A line feed ends them, with a carriage return before
    it or not; other characters that Python takes for ends are text.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="\n") as lines:
            return [line.removesuffix("\n").removesuffix("\r") for line in lines]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
