"""Packages that one tool needs and the others do not."""

from importlib.util import find_spec

from .errors import UserError

__all__ = ["FairseqMissing", "need"]


class FairseqMissing(UserError, ImportError):
    """There is no fairseq. A command ends with the one line; ``except ImportError`` catches it too."""


def need(extra: str, *packages: str) -> None:
    """Go on where all packages are installed. To be asked before the first of them is imported.

    Args:
        extra: the name in ``pip install 'skipln_fairseq[EXTRA]'`` that brings them.
        packages: as they are imported.

    Raises:
        UserError: names those that are missing, and how to install them.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(f"{', '.join(missing)} {verb} not installed: pip install 'skipln_fairseq[{extra}]'")
