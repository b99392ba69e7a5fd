"""`make install` on every Python: what it takes, what it refuses in one line, and that it begins anew."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cases import spread
from tests.support.commands import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements"
INDEX = "https://download.pytorch.org/whl/cpu"


@pytest.fixture
def machine(monkeypatch):
    """requirements/machine.py, on Linux x86-64 with all that may be needed."""
    spec = importlib.util.spec_from_file_location("machine", REQUIREMENTS / "machine.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(module.shutil, "which", lambda name: None if name == "nvidia-smi" else f"/bin/{name}")
    monkeypatch.setattr(module, "DRIVER", "/nowhere")
    return module


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("minor", [10, 11, 12, 13])
def test_each_python_has_a_lock_with_hashes(minor, machine, monkeypatch, capsys):
    monkeypatch.setattr(machine, "version", lambda: (3, minor))
    machine.lock()
    lock = Path(capsys.readouterr().out.strip())
    assert lock == REQUIREMENTS / f"py3{minor}.lock"
    entries = re.split(r"^(?=[a-z])", lock.read_text("utf-8").split("make lock\n")[1], flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
    locked = {canonical(entry.partition("==")[0]) for entry in entries}
    wanted = re.findall(r"^([\w-]+)", (REQUIREMENTS / "lock.in").read_text("utf-8"), re.MULTILINE)
    assert len(wanted) > 30
    assert {canonical(name) for name in wanted} <= locked


@pytest.mark.parametrize(
    ("minor", "system", "kind", "file"),
    [
        (11, "linux", "x86_64", "fairseq.txt"),
        (12, "linux", "x86_64", "fairseq.txt"),
        (10, "linux", "x86_64", "fairseq-source.txt"),
        (13, "linux", "x86_64", "fairseq-source.txt"),
        (11, "darwin", "arm64", "fairseq-source.txt"),
        (12, "linux", "aarch64", "fairseq-source.txt"),
    ],
)
def test_fairseq_is_compiled_where_it_has_no_wheel(minor, system, kind, file, machine, monkeypatch, capsys):
    monkeypatch.setattr(machine, "version", lambda: (3, minor))
    monkeypatch.setattr(machine.sys, "platform", system)
    monkeypatch.setattr(machine.platform, "machine", lambda: kind)
    monkeypatch.setattr(machine.sysconfig, "get_path", lambda name: str(REQUIREMENTS))
    machine.fairseq()
    assert Path(capsys.readouterr().out.strip()).name == file
    compiles = file != "fairseq.txt"
    assert machine.missing() == (
        f"fairseq is compiled for Python 3.{minor} here, and Python.h is missing: apt-get install python3-dev"
        if compiles
        else None
    )
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert machine.missing() == (
        f"fairseq is compiled for Python 3.{minor} here, and there is no C++ compiler: apt-get install g++"
        if compiles
        else None
    )


def test_what_takes_long_is_told_before(machine, monkeypatch, capsys):
    monkeypatch.setattr(machine, "missing", lambda: None)
    for minor, said in ((11, ""), (13, "fairseq has no wheel for Python 3.13 here: it is compiled")):
        monkeypatch.setattr(machine, "version", lambda minor=minor: (3, minor))
        machine.check()
        assert capsys.readouterr().out.startswith(said)
        assert bool(said) == (minor == 13)


@pytest.mark.parametrize("version", [(2, 7), (3, 9), (3, 14)])
def test_a_python_outside_the_range_is_one_line(version, machine, monkeypatch):
    monkeypatch.setattr(machine, "version", lambda: version)
    with pytest.raises(SystemExit) as ended:
        machine.check()
    assert re.fullmatch(
        r'make: ".*" is Python \d\.\d+, and this needs 3\.10 to 3\.13: make install PYTHON=\S+',
        str(ended.value),
    )


def test_a_python_without_venv_is_one_line(machine, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ensurepip" else find_spec(name)
    )
    assert machine.missing().endswith("cannot create virtual environments: apt-get install python3-venv")


def test_cuda_is_left_out_where_no_driver_can_run_it(machine, monkeypatch, capsys, tmp_path):
    def index():
        machine.torch_index()
        return capsys.readouterr().out.strip()

    assert index() == INDEX
    monkeypatch.setattr(machine, "DRIVER", str(tmp_path))
    assert index() == ""
    monkeypatch.setattr(machine, "DRIVER", "/nowhere")
    monkeypatch.setattr(machine.shutil, "which", lambda name: f"/usr/lib/wsl/lib/{name}")
    assert index() == ""
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    assert index() == ""


def make(*words, **variables):
    return subprocess.run(
        ["make", "--no-print-directory", *words, *(f"{name}={value}" for name, value in variables.items())],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


@pytest.mark.parametrize("index", ["", "https://somewhere/cu126"])
def test_the_build_of_torch_can_be_chosen(index, tmp_path):
    planned = make("--dry-run", "install", VENV=tmp_path / "venv", PYTHON=sys.executable, TORCH_INDEX=index)
    first, second = re.findall(r"^.* install (.*)-r requirements/torch\.txt", planned.stdout, re.MULTILINE)
    assert first == f"--no-deps {f'--extra-index-url {index} ' if index else ' '}"
    assert second == ""


def test_a_python_that_is_not_there_is_one_line(tmp_path):
    done = make("install", VENV=tmp_path / "venv", PYTHON="python-of-nobody")
    said, made = done.stderr.strip().splitlines()
    assert said.startswith('make: there is no "python-of-nobody": install Python 3.10 to 3.13')
    assert "Error 1" in made
    assert not (tmp_path / "venv").exists()


# makes an environment whose python only tells what it was asked for; asked for torch the first time, it kills all
PYTHON = """#!/bin/sh
[ "$2" = venv ] || exec {python} "$@"
rm -rf "$4"
mkdir -p "$4/bin"
cat > "$4/bin/python" <<'END'
#!/bin/sh
echo "$@" >> {told}
case "$*" in *requirements/torch.txt*) [ -e {told}.second ] || {{ touch {told}.second; kill -9 0; }} ;; esac
END
chmod +x "$4/bin/python"
"""


def test_an_interrupted_install_starts_over(tmp_path):
    told = tmp_path / "told"
    python = tmp_path / "python"
    python.write_text(PYTHON.format(python=sys.executable, told=told))
    python.chmod(0o755)
    venv = tmp_path / "venv"
    assert make("install", VENV=venv, PYTHON=python).returncode != 0
    assert not (venv / "installed").exists()
    (venv / "half").touch()
    before = told.read_text().splitlines()
    assert make("install", VENV=venv, PYTHON=python).returncode == 0
    after = told.read_text().splitlines()[len(before) :]
    assert (venv / "installed").exists()
    assert not (venv / "half").exists()
    assert after[: len(before)] == before
    assert after[-1].endswith("--editable .")
    assert make("install", VENV=venv, PYTHON=python).returncode == 0
    assert len(told.read_text().splitlines()) == len(before) + len(after)


@pytest.mark.parametrize(
    ("count", "most", "kept"),
    [(1, 2, [0]), (2, 2, [0, 1]), (9, 2, [0, 8]), (9, 3, [0, 4, 8]), (3, 9, [0, 1, 2]), (9, 1, [0])],
)
def test_the_short_set_has_the_first_and_the_last_case(count, most, kept):
    assert spread(range(count), most) == kept
