"""Variants that another package brings, by an entry point."""

import os
import subprocess
import sys

import pytest

from tests.support.commands import REPOSITORY

SKIP = """
from typing import Optional
from torch import Tensor
from skipln_fairseq.nn.skip.base import ANYWHERE, SKIPS, Skip
from skipln_fairseq.nn.variant import Option

@SKIPS.declare(
    "theirs",
    title="their skip",
    equation="x + cF(x)",
    paper="nobody's",
    options=(Option("factor", "their_factor", "factor of F(x)", "c", default=0.5),),
    goes_with=ANYWHERE,
)
class TheirSkip(Skip):
    def __init__(self, factor: float = 0.5):
        super().__init__()
        self.factor = factor

    def forward(self, f_x: Tensor, stream: Tensor, padding_mask: Optional[Tensor] = None) -> Tensor:
        return stream + self.factor * f_x
"""
METADATA = "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n"
POINTS = "[skipln_fairseq.variants]\nskips = theirs.skips\n"
BLOCK = """
import torch
from skipln_fairseq.nn import Residual
block = Residual(torch.nn.Identity(), 4, skip="theirs", norm="none", their_factor=0.25)
print(block(torch.ones(1, 4)).tolist())
"""
MODEL = """
from tests.support.build import build
from skipln_fairseq.nn import SKIPS
model = build("transformer_rskip_tiny", "--skip-type", "theirs", "--their-factor", "0.75")
print({m.factor for m in model.modules() if isinstance(m, SKIPS["theirs"])})
"""


@pytest.fixture
def run(tmp_path):
    """Runs Python where a package named theirs is installed."""
    for name, text in {
        "theirs/__init__.py": "",
        "theirs/skips.py": SKIP,
        "theirs-1.0.dist-info/METADATA": METADATA,
        "theirs-1.0.dist-info/entry_points.txt": POINTS,
    }.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}

    def python(*words):
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return python


def test_torch_alone_has_the_variant(run):
    assert run("-c", BLOCK).strip() == "[[1.25, 1.25, 1.25, 1.25]]"


def test_whoever_imports_their_package_first_has_it_too(run):
    assert run("-c", f"import theirs.skips\n{BLOCK}").strip() == "[[1.25, 1.25, 1.25, 1.25]]"


def test_the_commands_have_it_with_its_flag(run):
    assert "| their skip | x + cF(x) | `--skip-type theirs` |" in run("-m", "skipln_fairseq.family")
    assert run("-c", MODEL).strip() == "{0.75}"
