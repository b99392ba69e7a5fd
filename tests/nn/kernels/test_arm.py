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


@pytest.mark.parametrize("processor", ["cortex-a53", "max"])
def test_products_on_arm(processor, tmp_path):
    for program in (COMPILER, EMULATOR):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} (Debian: apt install gcc-aarch64-linux-gnu qemu-user)")
    target = ["-march=armv8-a"] if processor == "cortex-a53" else ["-march=armv8.6-a"]
    command = [COMPILER, *FLAGS, *library.FUSED, *target, "-Wall", "-Wextra", "-Werror", "-static"]
    program = tmp_path / "products"
    subprocess.run([*command, f"-I{library.FOLDER}", DRIVER, "-o", program, "-lm"], check=True)
    done = subprocess.run([EMULATOR, "-cpu", processor, program], capture_output=True, text=True, timeout=300)
    assert done.stdout == "right: portable\n"
