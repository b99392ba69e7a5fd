"""Print the package's folder, for ``--user-dir "$(python -m skipln_fairseq)"``: it works in every folder."""

from pathlib import Path

print(Path(__file__).resolve().parent)
