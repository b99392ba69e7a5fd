"""The rooms of the package and of the tests, and who knows whom."""

import ast
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


IMAGES = ("skipln_fairseq.images", "skipln_fairseq.attack")
SHARED = tuple(f"skipln_fairseq.{name}" for name in ("common", "compat", "nn", "plugin", "runs", "version"))


def test_translation_knows_nothing_of_images_and_the_reverse():
    """But for the door, which registers both."""
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
