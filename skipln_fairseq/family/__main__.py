"""Print the family: all choices, their equations, what goes together. Or draw it, or renew its page.

python -m skipln_fairseq.family
python -m skipln_fairseq.family --map docs/family.svg
python -m skipln_fairseq.family --wiring docs/wiring
python -m skipln_fairseq.family --write docs/connections.md
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from ..common.files import write_text
from ..common.needs import need
from ..models.family import REGISTRIES
from .tables import family_tables, write_into
from .wiring import drawings

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m skipln_fairseq.family", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--map", type=Path, metavar="FILE.svg", help="draw the map of the family to FILE.svg")
    parser.add_argument("--wiring", type=Path, metavar="DIR", help="draw the wiring of each variant into DIR")
    parser.add_argument("--write", type=Path, metavar="PAGE.md", help="renew the tables in PAGE.md")
    args = parser.parse_args(argv)
    if args.map is not None:
        need("probe", "matplotlib")
        from .draw import draw

        draw(REGISTRIES, args.map)
        print(args.map)
    if args.wiring is not None:
        for name, picture in drawings():
            write_text(args.wiring / name, picture)
        print(args.wiring)
    if args.write is not None:
        write_into(args.write)
        print(args.write)
    if args.map is args.wiring is args.write is None:
        print(family_tables())


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.WARNING)  # importing fairseq lets every library's debugging through
    main()
