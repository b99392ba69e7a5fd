"""The family: all choices, what they compute, what they go with.

python -m skipln_fairseq.family
python -m skipln_fairseq.family --map family.svg
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from ..common.needs import need
from ..models.family import REGISTRIES, readme_table

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m skipln_fairseq.family", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--map", type=Path, metavar="FILE.svg", help="draw the map of the family there")
    args = parser.parse_args(argv)
    if args.map is None:
        print(readme_table())
        return
    need("probe", "matplotlib")
    from .draw import draw

    draw(REGISTRIES, args.map)
    print(args.map)


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.WARNING)  # importing fairseq lets every library's debugging through
    main()
