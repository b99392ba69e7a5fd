"""The door: what an import does, and what it says where fairseq is missing."""

import subprocess
import sys

from tests.support.commands import REPOSITORY

NO_FAIRSEQ = """
import importlib.util as util
find_spec = util.find_spec
util.find_spec = lambda name, *more: None if name == "fairseq" else find_spec(name, *more)
import skipln_fairseq
"""


def test_a_missing_fairseq_is_named_with_the_command_that_installs_it():
    done = subprocess.run(
        [sys.executable, "-c", NO_FAIRSEQ], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("ImportError: skipln_fairseq needs fairseq")
    assert "pip install --no-deps ve-fairseq==" in error
