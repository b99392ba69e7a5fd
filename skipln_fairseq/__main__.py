"""Print the package's folder, for ``--user-dir "$(python -m skipln_fairseq)"``: it works in every folder."""

import argparse
from pathlib import Path

parser = argparse.ArgumentParser(
    prog="python -m skipln_fairseq",
    description='Print the folder of skipln_fairseq: fairseq-train --user-dir "$(python -m skipln_fairseq)" …',
)
parser.parse_args()
print(Path(__file__).resolve().parent)
