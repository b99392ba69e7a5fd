"""One package, many spellings of its path: relative, through a link, or as ``fairseq/../skipln_fairseq``.

Nothing here can help before the package is imported: fairseq then looks for ``--user-dir skipln_fairseq`` in the
current folder and beside its own, and ends with FileNotFoundError where it is in neither. ``--user-dir "$(python -m
skipln_fairseq)"`` is found everywhere.
"""

from argparse import Namespace
from pathlib import Path

from fairseq import utils

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]

PACKAGE = Path(__file__).resolve().parents[1]


def apply() -> None:
    """Know this package again under each of them.

    fairseq compares the spelling with the imported package's ``__path__`` and dies with "not globally
    unique" where they differ. All its callers use ``utils.import_user_module``.
    """

    @around(utils, "import_user_module")
    def import_user_module(stock, args: Namespace) -> None:
        if not names_this_package(getattr(args, "user_dir", None)):
            stock(args)


def names_this_package(user_dir: str | None) -> bool:
    """Whether *user_dir*, found where fairseq looks for it, is the package that is running."""
    if user_dir is None:
        return False
    beside_fairseq = Path(utils.__file__).parent
    places = (Path(user_dir), beside_fairseq / user_dir, beside_fairseq.parent / user_dir)
    found = next((place for place in places if place.exists()), None)
    # An editable install lies in none of these places; its bare name can mean nothing else.
    return found.resolve() == PACKAGE if found else user_dir == PACKAGE.name
