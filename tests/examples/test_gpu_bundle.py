"""What `make gpu-bundle` takes along, and what examples/gpu/run.sh makes of its parts."""

import os
import re
import subprocess

import pytest

from tests.support.commands import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements"
RUN = REPOSITORY / "examples" / "gpu" / "run.sh"


def entries(name):
    """By package its version and hashes."""
    text = (REQUIREMENTS / name).read_text("utf-8")
    found = re.findall(r"^([a-z][\w.-]*)==(\S+)((?: \\\n +--hash=\S+)+)", text, re.MULTILINE)
    return {package: (version, hashes) for package, version, hashes in found}


def test_the_bundle_has_the_versions_and_hashes_of_the_lock():
    bundled, locked = entries("gpu.lock"), entries("py312.lock")
    assert {package: locked[package] for package in bundled} == bundled
    wanted = re.findall(r"^[a-z][\w-]*", (REQUIREMENTS / "gpu.in").read_text("utf-8"), re.MULTILINE)
    assert len(wanted) > 10
    assert {*wanted} < {*bundled}
    assert not {"torch", "triton", "scipy"} & bundled.keys()  # the host's, and what it can do without


def test_the_bundle_is_for_python_312_whatever_this_one_is():
    command = ["make", "-n", "-o", "install", "gpu-bundle"]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert "gpu.lock fairseq.txt" in printed
    assert "--require-hashes --python-version 3.12" in printed


FAKE = """#!/usr/bin/env bash
case "$*" in
  *" pip install "*) ;;
  *"-m pytest "*) echo testing; sleep 100 ;;
  *"bench leave"*) exit 1 ;;
  *) echo "$*" ;;
esac
"""


@pytest.fixture
def ran(tmp_path):
    """With a Python that only says what it is asked: its tests never end, and its leave-steps fail."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python3"
    python.write_text(FAKE)
    python.chmod(0o755)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "one.whl").touch()
    script = (
        RUN.read_text("utf-8")
        .replace("part tests 150", "part tests 1")
        .replace('cd "$(dirname "$0")/../.."', f'cd "{REPOSITORY}"')
    )
    (tmp_path / "run.sh").write_text(script)
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "BUDGET": "100"}
    command = ["bash", tmp_path / "run.sh", tmp_path / "wheels", tmp_path / "out"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=150)
    return done, tmp_path / "out"


def test_each_part_is_done_though_another_failed_and_has_a_line(ran):
    done, out = ran
    lines = (out / "summary.txt").read_text().splitlines()
    assert done.returncode == 1
    assert done.stdout.endswith("\n".join(lines) + "\n")
    how = {line[:20].strip(): line[21:33].strip() for line in lines}
    assert how["install"] == how["machine"] == how["train-base-fp16"] == how["decode"] == "passed"
    assert how["tests"] == "timed out"
    assert how["leave-512"] == how["leave-1024"] == "failed"
    assert all(re.search(r" \d+ s$", line) for line in lines)
    assert "testing" in (out / "tests.log").read_text()
    trained = (out / "train-big-bf16.log").read_text()
    assert "--shapes wmt-big --dtype bf16" in trained
    assert "stock plain order-1 order-2 order-8" in trained
    assert "stock stock+compile plain" in (out / "compile-base-fp16.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "give the folder with the wheels and one for the results"),
        (["bundle"], "give the folder with the wheels and one for the results"),
        (["empty", "out"], "empty has no wheels: make gpu-bundle makes them"),
        (["bundle", "out"], "torch finds no GPU"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line_before_anything_is_written(arguments, line, tmp_path):
    """Without arguments the script once wrote to the root of the file system."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python3"
    python.write_text("#!/bin/sh\necho a warning\necho torch finds no GPU\nexit 1\n")
    python.chmod(0o755)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "one.whl").touch()
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "BUDGET": "0"}
    command = ["bash", RUN, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"examples/gpu/run.sh: {line}")
    assert done.stderr.count("\n") == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bin", "bundle"]


def test_all_parts_together_keep_to_the_budget():
    """And each limit is one that a single run has in nine minutes."""
    text = RUN.read_text("utf-8")
    assert "budget=${BUDGET:-540}" in text
    limits = [
        int(limit)
        for limit in re.findall(r"^(?:part|bench|train|compile|leave) \S+ (\d+)", text, re.MULTILINE)
    ]
    assert len(limits) == 16
    assert max(limits) <= 150
