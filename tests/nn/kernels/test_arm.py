"""Products on Arm: compiled for it and run by an emulator, where both are at hand."""

import shutil
import subprocess
from pathlib import Path

import pytest

from skipln_fairseq.nn.kernels import compiled
from skipln_fairseq.nn.kernels.decode import library

DRIVER = Path(__file__).parents[2] / "support" / "products.c"
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
FLAGS = [flag for flag in compiled.FLAGS if flag not in ("-march=native", "-shared", "-fPIC")]


@pytest.mark.parametrize(
    ("processor", "target", "kind"),
    [("cortex-a53", "armv8-a", "portable"), ("max", "armv8.2-a+dotprod", "neon-dotprod")],
)
def test_products_on_arm(processor, target, kind, tmp_path):
    for program in (COMPILER, EMULATOR):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} (Debian: apt install gcc-aarch64-linux-gnu qemu-user)")
    command = [COMPILER, *FLAGS, *library.FUSED, f"-march={target}", "-Wall", "-Wextra", "-Werror", "-static"]
    program = tmp_path / "products"
    subprocess.run([*command, f"-I{library.FOLDER}", DRIVER, "-o", program, "-lm"], check=True)
    done = subprocess.run([EMULATOR, "-cpu", processor, program], capture_output=True, text=True, timeout=300)
    assert done.stdout == f"right: {kind}\n"
