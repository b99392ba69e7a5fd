"""The packages and the folders of the tests, and which imports which."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imports(file):
    """All that a file imports, modules and what it takes from them."""
    home = file.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = home[: len(home) - node.level + 1] if node.level else ()
            yield from (".".join(filter(None, (*base, node.module, alias.name))) for alias in node.names)


PACKAGE = ROOT / "skipln_fairseq"
PAGE = ROOT / "docs" / "architecture.md"


def packages(folder):
    """The folders with code in them."""
    return {file.parent.name for file in folder.glob("*/__init__.py")}


def imported(folder):
    """Pairs of packages of which the first imports the second; all may import ``common``."""
    found = set()
    for file in folder.glob("*/**/*.py"):
        package = file.relative_to(folder).parts[0]
        for name in imports(file):
            parts = name.split(".")
            if parts[0] == folder.name and len(parts) > 1 and (folder / parts[1]).is_dir():
                found.add((package, parts[1]))
    return {(a, b) for a, b in found if a != b and b != "common"}


def drawn(text):
    """The arrows of the page's drawing."""
    return set(re.findall(r"^  (\w+) --> (\w+)$", text, re.MULTILINE))


def test_the_architecture_page_names_every_package():
    named = re.findall(r"^\| `(\w+)` \|", PAGE.read_text().partition("## One variant")[0], re.MULTILINE)
    assert sorted(named) == sorted(packages(PACKAGE))


def test_beside_the_packages_stand_only_entry_points():
    entry_points = {"__init__.py", "__main__.py", "plugin.py"}
    assert {file.name for file in PACKAGE.glob("*.py")} == {*entry_points, "version.py"}


def test_the_page_draws_who_imports_whom():
    assert drawn(PAGE.read_text()) == imported(PACKAGE)


def test_there_are_no_import_cycles():
    left = imported(PACKAGE)
    while left:
        ends = {b for _, b in left} - {a for a, _ in left}
        assert ends, f"these packages import each other: {sorted(left)}"
        left = {(a, b) for a, b in left if b not in ends}


def test_what_many_packages_share_imports_none_of_them():
    assert not [pair for pair in imported(PACKAGE) if pair[0] in ("common", "nn")]


def test_the_tests_have_the_same_packages():
    others = {"cluster", "commands", "docs", "examples", "oracles", "support"}
    # tried through the commands of `commands`
    untested = {"to_ctranslate2"}
    assert packages(ROOT / "tests") == (packages(PACKAGE) - untested) | others
    loose = {file.name for file in (ROOT / "tests").glob("test_*.py")}
    of_the_package = {"test_import.py", "test_package.py", "test_pythons.py", "test_release.py"}
    assert loose == of_the_package | {"test_docs.py", "test_house.py", "test_readme.py"}


def test_axes_of_the_page_are_the_registries():
    folders = set(re.findall(r"^\| .* \| `--[\w-]+` \| `nn/(\w+)` \|", PAGE.read_text(), re.MULTILINE))
    assert folders == packages(PACKAGE / "nn") - {"kernels"}


IMAGES = ("skipln_fairseq.images", "skipln_fairseq.attack")
SHARED = tuple(f"skipln_fairseq.{name}" for name in ("common", "compat", "nn", "plugin", "runs", "version"))


def test_translation_knows_nothing_of_images_and_the_reverse():
    """But for the entry point, which registers both."""
    of_images = 0
    for file in (ROOT / "skipln_fairseq").rglob("*.py"):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        own = [found for found in imports(file) if found.startswith("skipln_fairseq.")]
        if name.startswith(IMAGES):
            of_images += 1
            assert not [found for found in own if not found.startswith((*IMAGES, *SHARED))], file
        elif name != "skipln_fairseq.plugin":
            assert not [found for found in own if found.startswith(IMAGES)], file
    assert of_images > 20


@pytest.mark.parametrize(
    "line", ["from .. import images", "import skipln_fairseq.images.task as t", "from ..images import task"]
)
def test_what_breaks_the_house_is_seen(line, monkeypatch, tmp_path):
    file = tmp_path / "skipln_fairseq" / "models" / "x.py"
    file.parent.mkdir(parents=True)
    file.write_text(line)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert any(found.startswith("skipln_fairseq.images") for found in imports(file))
