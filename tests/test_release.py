"""What is uploaded: metadata, a README that renders elsewhere, and all requirements declared."""

import ast
import runpy
import sys
from pathlib import Path
from unittest import mock

import pytest
import setuptools
from markdown_it import MarkdownIt
from packaging.requirements import Requirement

from tests.support.commands import REPOSITORY

SETUP = runpy.run_path(str(REPOSITORY / "setup.py"))
ADDRESS = "https://example.org/repository"


def declared():
    """What setup.py hands over."""
    with mock.patch.object(setuptools, "setup") as setup:
        runpy.run_path(str(REPOSITORY / "setup.py"), run_name="__main__")
    return setup.call_args.kwargs


def places(markdown):
    """Where the links and pictures of a text lead, as a parser of Markdown finds them."""
    for token in MarkdownIt().parse(markdown):
        for each in token.children or ():
            place = each.attrGet("href") or each.attrGet("src")
            if place:
                yield str(place)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](docs/a.md)", f"[a]({ADDRESS}/blob/main/docs/a.md)"),
        ("[a](./docs/a.md#b)", f"[a]({ADDRESS}/blob/main/docs/a.md#b)"),
        ("[a](docs/)", f"[a]({ADDRESS}/blob/main/docs/)"),
        ("![a](a.svg)", f"![a]({ADDRESS}/raw/main/a.svg)"),
        ("[![a](a.png)](b.md)", f"[![a]({ADDRESS}/raw/main/a.png)]({ADDRESS}/blob/main/b.md)"),
        ('<img src="a.png" alt="b">', f'<img src="{ADDRESS}/raw/main/a.png" alt="b">'),
        ('<a href="LICENSE">', f'<a href="{ADDRESS}/blob/main/LICENSE">'),
        ("see [a]\n\n[a]: b.md", f"see [a]\n\n[a]: {ADDRESS}/blob/main/b.md"),
        *(
            (text, text)
            for text in ("[a](#b)", "[a](https://b.org/c.md)", "[a](mailto:b@c.org)", "a [b] (c)")
        ),
    ],
)
def test_links_lead_into_the_repository(text, expected):
    assert SETUP["absolute"](text, ADDRESS) == expected


def test_the_readme_leads_nowhere_else():
    found = list(places(SETUP["metadata"]()["long_description"]))
    assert len(found) > 5
    assert [place for place in found if not place.startswith(("https://", "#"))] == []


def test_what_a_reader_looks_for_is_there():
    found = declared()
    for name in ("author", "url", "project_urls", "license_expression", "keywords", "classifiers"):
        assert found[name]
    assert found["url"].startswith("https://")
    for minor in (10, 11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in found["classifiers"]


@pytest.mark.parametrize(
    "system", [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")], ids="-".join
)
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_the_fairseq_extra_has_one_fairseq_everywhere(version, system):
    machine = {"python_version": version, "sys_platform": system[0], "platform_machine": system[1]}
    found = [
        requirement.name
        for requirement in map(Requirement, declared()["extras_require"]["fairseq"])
        if "fairseq" in requirement.name
        and (requirement.marker is None or requirement.marker.evaluate(machine))
    ]
    wheel = version in ("3.11", "3.12") and system == ("linux", "x86_64")
    assert found == ["ve-fairseq" if wheel else "fairseq-fixed"]


PACKAGES = {
    "PIL": "pillow",
    "hydra": "hydra-core",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "subword_nmt": "subword-nmt",
}
# fairseq is the user's own; comet is named where it is missing
NOT_DECLARED = {"fairseq", "fairseq_cli", "comet", "skipln_fairseq", "examples"}


def third_parties(folder: Path):
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in NOT_DECLARED:
                    yield PACKAGES.get(top, top)


def names(requirements):
    return {Requirement(each).name for each in requirements}


def test_all_that_is_imported_is_declared():
    found = declared()
    extras = found["extras_require"]
    always = names(found["install_requires"])
    imported = set(third_parties(REPOSITORY / "skipln_fairseq"))
    assert len(imported) > 10
    assert imported <= always | set().union(*map(names, extras.values()))
    recipes = set(third_parties(REPOSITORY / "skipln_fairseq" / "recipes"))
    assert recipes <= always | names(extras["recipes"])
    assert set(third_parties(REPOSITORY / "examples" / "demo")) <= always | names(extras["demo"])
