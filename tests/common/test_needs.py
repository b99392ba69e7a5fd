"""A tool whose packages are missing says so in one line; its help needs none of them."""

import pytest

from tests.support.commands import run

WITHOUT = """
import importlib.util as util, runpy, sys
missing = {missing!r}
find_spec = util.find_spec
util.find_spec = lambda name, *more: None if name.partition(".")[0] in missing else find_spec(name, *more)
for name in list(sys.modules):
    if name.partition(".")[0] in missing:
        del sys.modules[name]

class Missing:
    @staticmethod
    def find_spec(name, *more):
        if name in missing:
            raise ModuleNotFoundError(f"No module named {{name!r}}")

sys.meta_path.insert(0, Missing)
sys.argv = {argv!r}
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
OPTIONAL = (
    *("ctranslate2", "jinja2", "matplotlib", "PIL", "rich", "sacremoses", "sentencepiece", "subword_nmt"),
    *("tensorboardX", "triton"),
)
TOOLS = {
    "skipln_fairseq.attack": (("--source", "x"), "matplotlib is", "images"),
    "skipln_fairseq.bench": (("draw", "x"), "matplotlib, rich are", "probe"),
    "skipln_fairseq.compare": (("x.yaml",), "jinja2, matplotlib are", "compare"),
    "skipln_fairseq.family": (("--map", "x.svg"), "matplotlib is", "probe"),
    "skipln_fairseq.probe": ((), "matplotlib, rich are", "probe"),
    "skipln_fairseq.recipes": (
        ("prepare", "own-data"),
        "sacremoses, sentencepiece, subword_nmt are",
        "recipes",
    ),
    "skipln_fairseq.to_ctranslate2": (
        ("--path", "x", "--data", "x", "--output-dir", "x"),
        "ctranslate2 is",
        "ctranslate2",
    ),
    "examples.demo": ((), "matplotlib, rich, sentencepiece are", "demo"),
}


def without(*argv, **more):
    return run("-c", WITHOUT.format(missing=OPTIONAL, argv=list(argv)), **more).output


@pytest.mark.parametrize("tool", TOOLS)
def test_help_needs_no_package(tool):
    assert without(tool, "--help").startswith(f"usage: python -m {tool}")


@pytest.mark.parametrize("tool", TOOLS)
def test_a_missing_package_is_one_line(tool):
    arguments, missing, extra = TOOLS[tool]
    said = without(tool, *arguments, succeeds=False)
    line = f"error: {missing} not installed: pip install 'skipln_fairseq[{extra}]'\n"
    assert said in (f"skipln_fairseq: {line}", f"demo: {line}")
