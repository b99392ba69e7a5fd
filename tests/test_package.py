"""Entry points: what an import of the package does, with fairseq and without."""

import shutil
import subprocess
import sys
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.commands import REPOSITORY

NO_FAIRSEQ = "import sys; sys.modules['fairseq'] = None\n"
USES = """
import sys, time, warnings
warnings.simplefilter("ignore")
import torch
hook, finders, began = sys.excepthook, list(sys.meta_path), time.process_time()
from skipln_fairseq.nn import Residual
print("seconds", time.process_time() - began)
assert sys.excepthook is hook and sys.meta_path == finders and not sys.modules.get("fairseq")
block = Residual(torch.nn.Linear(4, 4), 4, skip="recursive", order=2, dropout=0.1)
block(torch.ones(2, 4)).sum().backward()
"""
REGISTERED = """
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq import utils
print("registered", "transformer_rskip" in ARCH_MODEL_REGISTRY, hasattr(utils.import_user_module, "__wrapped__"))
"""


def python(code, *more, executable=sys.executable, cwd=REPOSITORY, env=None):
    """Run code in a new process, which has imported nothing."""
    command = [str(executable), *(("-c", code) if code else ()), *more]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def output(*arguments, **keywords):
    done = python(*arguments, **keywords)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("package", ["models", "images", "compat", "probe", "runs", "plugin"])
def test_a_missing_fairseq_is_named_with_the_command_that_installs_it(package):
    assert_one_line_without_fairseq(f"import skipln_fairseq.{package}")
    caught = f"try:\n    import skipln_fairseq.{package}\nexcept ImportError as error:\n    print(error)"
    assert output(NO_FAIRSEQ + caught).startswith("fairseq is not installed. ")


TOOLS = ("attack", "average", "bench", "compare", "images.predict", "probe", "recipes", "to_ctranslate2")


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_without_fairseq_ends_in_one_line(tool):
    assert_one_line_without_fairseq(
        f"import runpy; runpy.run_module('skipln_fairseq.{tool}', run_name='__main__', alter_sys=True)"
    )


def assert_one_line_without_fairseq(code):
    done = python(NO_FAIRSEQ + code)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("skipln_fairseq: error: fairseq is not installed. ")
    assert "pip install --no-deps ve-fairseq==" in line


def test_torch_alone_is_enough_for_the_modules():
    """In well under a second of computing beyond torch."""
    printed = output(NO_FAIRSEQ + USES)
    assert float(printed.split()[1]) < 0.8


def test_the_modules_leave_a_fairseq_that_is_installed_alone():
    code = USES.replace("sys.meta_path == finders", "'triton' not in sys.modules")
    output(code + "assert not [name for name in sys.modules if name.startswith('fairseq')]")


@pytest.mark.parametrize(
    "first",
    [
        "import skipln_fairseq",
        "from skipln_fairseq.nn import Residual",
        "import skipln_fairseq; from importlib.util import find_spec; find_spec('fairseq')",
        "import fairseq.utils, skipln_fairseq",
        "import skipln_fairseq.models",
        "import skipln_fairseq.compat.bfloat16",
        "import skipln_fairseq; skipln_fairseq.images",
    ],
)
def test_who_uses_fairseq_too_has_the_models_in_whichever_order(first):
    assert "registered True True" in output(first + REGISTERED)


def test_an_unknown_name_is_none_of_the_package():
    done = python("import skipln_fairseq; skipln_fairseq.nonesuch")
    assert "has no attribute 'nonesuch'" in done.stderr


PRINTED = """
import runpy, sys
sys.argv, sys.modules["torch"] = ["skipln_fairseq"], None
sys.path.insert(0, {!r})
runpy.run_module("skipln_fairseq")
"""


def test_the_folder_is_printed_without_fairseq_or_torch(tmp_path):
    printed = output(NO_FAIRSEQ + PRINTED.format(str(REPOSITORY)), cwd=tmp_path)
    assert printed == f"{REPOSITORY / 'skipln_fairseq'}\n"


def closure(name, found):
    """A distribution and all that it needs, as names of distributions."""
    if name in found:
        return
    found.add(name)
    for line in requires(name) or ():
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            closure(needed.name, found)


@pytest.mark.slow
def test_an_environment_with_torch_alone(tmp_path):
    """The built package in a real one, whose torch and what torch needs are those of this one."""
    output(None, "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    (site,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
    found: set[str] = set()
    closure("torch", found)
    closure("numpy", found)
    for name in found:
        own = distribution(name)
        for top in {file.parts[0] for file in own.files or () if file.parts[0] != ".."}:
            (site / top).exists() or (site / top).symlink_to(Path(own.locate_file(top)).resolve())
    source = tmp_path / "source"  # pip builds where the source is
    shutil.copytree(REPOSITORY / "skipln_fairseq", source / "skipln_fairseq")
    for file in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / file, source)
    pip = ("-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site))
    output(None, *pip, str(source))
    assert (site / "skipln_fairseq" / "py.typed").exists()
    executable = tmp_path / "venv" / "bin" / "python"
    alone = {"cwd": tmp_path, "executable": executable, "env": {"HOME": str(tmp_path)}}
    assert output(None, "-m", "skipln_fairseq", **alone) == f"{site / 'skipln_fairseq'}\n"
    output(USES, **alone)
    assert "fairseq is not installed" in python("import skipln_fairseq.models", **alone).stderr
