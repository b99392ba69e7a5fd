"""Products in a C program of its own: by the usual compiler, clang, and one for Arm, whose program an emulator runs."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from skipln_fairseq.nn.kernels import compiled
from skipln_fairseq.nn.kernels.decode import kind, library

DRIVER = Path(__file__).parents[2] / "support" / "products.c"
FLAGS = [*(flag for flag in compiled.FLAGS if flag not in ("-shared", "-fPIC")), *library.FUSED]
WARNINGS = ("-Wall", "-Wextra", "-Werror")


def compile_driver(folder, compiler, *flags):
    """The program that multiplies and says whether that was right."""
    program = folder / "products"
    command = [compiler, *WARNINGS, *flags, f"-I{library.FOLDER}", DRIVER, "-o", program, "-lm"]
    subprocess.run(command, check=True)
    return program


def says(*command):
    """What a program prints."""
    return subprocess.run(command, capture_output=True, text=True, timeout=300).stdout


def needed(*programs):
    """Skip where one of them is not at hand."""
    for program, package in programs:
        if shutil.which(program) is None:
            pytest.skip(f"no {program} (Debian: apt install {package})")


@pytest.mark.parametrize(
    ("processor", "target", "found"),
    [("cortex-a53", "armv8-a", "portable"), ("max", "armv8.2-a+dotprod", "neon-dotprod")],
)
def test_products_on_arm(processor, target, found, tmp_path):
    compiler, emulator = "aarch64-linux-gnu-gcc", "qemu-aarch64"
    needed((compiler, "gcc-aarch64-linux-gnu"), (emulator, "qemu-user"))
    flags = [flag for flag in FLAGS if flag != "-march=native"]
    program = compile_driver(tmp_path, compiler, *flags, f"-march={target}", "-static")
    assert says(emulator, "-cpu", processor, program) == f"right: {found}\n"


@pytest.mark.parametrize("target", ["native", "x86-64-v3", "x86-64-v2"])
def test_products_by_the_usual_compiler(target, tmp_path):
    """So that the program is compiled where there is no other one."""
    if kind() is None or (target != "native" and platform.machine() != "x86_64"):
        pytest.skip("no C compiler, or another processor")
    flags = [*(flag for flag in FLAGS if not flag.startswith("-march=")), f"-march={target}"]
    assert says(compile_driver(tmp_path, *compiled._words("CC", "cc"), *flags)).startswith("right: ")


def test_products_by_clang(tmp_path):
    clang = next((name for name in ("clang", "clang-19", "clang-14") if shutil.which(name)), "clang")
    needed((clang, "clang"))
    flags = [flag for flag in FLAGS if flag not in ("-fopenmp", "-fvariable-expansion-in-unroller")]
    program = compile_driver(tmp_path, clang, *flags, "-Wno-unknown-pragmas", "-Wno-unused-parameter")
    assert says(program).startswith("right: ")
    assert kind() is None or kind() == "amx" or says(program) == f"right: {kind()}\n"
