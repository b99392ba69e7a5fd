"""The old name of ``python -m skipln_fairseq.recipes``."""

from skipln_fairseq.recipes.__main__ import main
from skipln_fairseq.runs import run_resumable

if __name__ == "__main__":
    run_resumable(main)
