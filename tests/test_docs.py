"""The README and the pages: short, linked to files that exist, with tables and pictures of today."""

import argparse
import json
import posixpath
import re
import runpy
import subprocess
import sys

import pytest
import torch
from fairseq.models import MODEL_REGISTRY

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compare.grid import read_grid
from skipln_fairseq.family.__main__ import main as family
from skipln_fairseq.family.tables import family_tables, write_into
from skipln_fairseq.family.wiring import drawings
from skipln_fairseq.nn import NORMS, PLACEMENTS, SKIPS
from tests.support.commands import REPOSITORY, run

DOCS = REPOSITORY / "docs"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = [
    page for pattern in ("*.md", "docs/*.md", "examples/**/*.md") for page in sorted(REPOSITORY.glob(pattern))
]
URL = re.search(r"^repo_url: (.*)$", (REPOSITORY / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)[1]
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_the_readme_is_short():
    assert len(README.encode()) <= 8192
    starts = README.partition("## Quick starts")[2].partition("\n## ")[0]
    blocks = re.findall(r"```\w+\n(.*?)```", starts, re.DOTALL)
    assert len(blocks) == 5
    assert all(len(block.splitlines()) <= 6 for block in blocks)


def test_the_readme_counts_the_family():
    told = f"{len(SKIPS)} skip types, {len(NORMS)} norms and {len(PLACEMENTS)} placements"
    assert told in README


def anchors(page):
    """Of the headings, as GitHub and the site make them."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_relative_link_leads_to_a_file(page):
    for link in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_the_repository_has_one_address():
    """Where it has to stand as text it is that of mkdocs.yml."""
    files = ("README.md", "CITATION.cff", "docs/contributing.md")
    for name in files:
        found = set(
            re.findall(r"https://github\.com/[\w-]+/skipln_fairseq", (REPOSITORY / name).read_text("utf-8"))
        )
        assert found == {URL}, name


def test_every_page_is_in_the_navigation():
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE))
    assert {page.name for page in DOCS.glob("*.md")} <= named
    for name in named - {"index.md", "CHANGELOG.md"}:
        assert (DOCS / name).exists() or (REPOSITORY / name).exists(), name


def test_the_tables_of_connections_are_the_code_s():
    text = (DOCS / "connections.md").read_text(encoding="utf-8")
    assert family_tables() in text, "python -m skipln_fairseq.family --write docs/connections.md"


def test_the_tables_are_written_into_their_page(tmp_path, capsys):
    """What stands around them stays."""
    page = tmp_path / "page.md"
    page.write_text(
        re.sub(r"(?<=\n)\| `plain`.*\n", "", (DOCS / "connections.md").read_text("utf-8")), "utf-8"
    )
    family(["--write", str(page)])
    assert page.read_text("utf-8") == (DOCS / "connections.md").read_text("utf-8")
    assert capsys.readouterr().out.strip() == str(page)


@pytest.mark.parametrize("text", [None, "no place", b"\xff"])
def test_a_page_without_a_place_for_the_tables_is_left_alone(tmp_path, text):
    page = tmp_path / "page.md"
    if text is not None:
        page.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = page.read_bytes() if page.exists() else None
    with pytest.raises(UserError, match=r"--write .*page\.md"):
        write_into(page)
    assert (page.read_bytes() if page.exists() else None) == before


def test_the_pictures_of_the_wiring_are_todays():
    drawn = dict(drawings())
    assert {file.name: file.read_text("utf-8") for file in (DOCS / "wiring").iterdir()} == drawn
    assert len(drawn) == len(SKIPS) + len(PLACEMENTS)


EVIDENCE = REPOSITORY / "examples" / "evidence"


def test_the_charts_show_what_was_measured(tmp_path):
    """The same names and numbers as the results, and the same files each time."""
    draw = (sys.executable, str(EVIDENCE / "draw.py"))
    for name in ("one", "two"):
        subprocess.run([*draw, str(tmp_path / name)], check=True, capture_output=True)
    charts = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert len(charts) == 7
    for name in charts:
        text = (tmp_path / "one" / name).read_text("utf-8")
        assert text == (tmp_path / "two" / name).read_text("utf-8")
        words = re.findall(r"<text[^>]*>([^<]*)</text>", text)
        committed = re.findall(r"<text[^>]*>([^<]*)</text>", (DOCS / "pictures" / name).read_text("utf-8"))
        assert words == committed, "python examples/evidence/draw.py docs/pictures"
        if name == "does-it-help.svg":
            assert {"Post-LN", "rSkip+LN 2", "Pre-LN"} <= set(words)  # the legend
        else:
            found = json.loads((EVIDENCE / name.removesuffix(".svg") / "results.json").read_text("utf-8"))
            for table in found["data"]:
                for variant, row in table["rows"].items():
                    assert variant in words
                    assert f"{row['mean']:.2f} ± {row['deviation']:.2f}" in words


@pytest.mark.parametrize(
    ("link", "found"),
    [
        ("connections.md", "connections.md"),
        ("../README.md", "index.md"),
        ("../examples/favor/README.md", "examples/favor/README.md"),
        ("../examples/favor", "examples/favor/README.md"),
        ("../setup.py", f"{URL}/blob/main/setup.py"),
        ("missing.md", None),
    ],
)
def test_the_site_follows_links(link, found):
    """docs/site/links.py, with the part of mkdocs that it uses."""
    pytest.importorskip("mkdocs")
    target = runpy.run_path(str(DOCS / "site" / "links.py"))["_target"]
    known = ("connections.md", "index.md", "examples/favor/README.md")

    class Config:
        repo_url = URL

    class Files:
        @staticmethod
        def get_file_from_path(path):
            return path if path in known else None

    from mkdocs.exceptions import PluginError

    if found is None:
        with pytest.raises(PluginError, match=r"missing\.md"):
            target("docs/x.md", link, "x.md", Config, Files)
    else:
        assert posixpath.normpath(target("docs/x.md", link, "x.md", Config, Files)) == posixpath.normpath(
            found
        )


# of pip, sbatch, torchrun and the authors of DLCL
OTHERS = {
    "no-build-isolation",
    "gpus-per-node",
    "ntasks-per-node",
    "array",
    "max-restarts",
    "dependency",
    "parsable",
    "wrap",
    "normalize-embed",
    "decoder-langtok",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_a_table_ends_with_an_empty_line(page):
    """Else the next line becomes one of its rows."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    assert re.findall(r"^\|.*\n(?![|\n])(.+)", text, re.MULTILINE) == []


def test_every_flag_on_the_pages_exists():
    """One of fairseq's commands, of a model, or of a tool of this repository."""
    known = set(OTHERS)
    for command in ("fairseq-train", "fairseq-generate", "fairseq-preprocess"):
        known |= flags(run(command, "--help").output)
    for model in ("transformer_rskip", "transformer_lm_rskip", "preact_resnet"):
        parser = argparse.ArgumentParser()
        MODEL_REGISTRY[model].add_args(parser)
        known |= flags(parser.format_help())
    known |= flags(run("-m", "skipln_fairseq.bench", "family", "--help").output)  # made of names
    for folder in ("skipln_fairseq", "examples"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            known |= flags(file.read_text("utf-8"))
    for page in (REPOSITORY / "README.md", *DOCS.glob("*.md")):
        assert flags(page.read_text("utf-8")) <= known, page.name


def flags(text):
    """Without their dashes."""
    return set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", text))


def test_the_class_of_the_readme_works():
    """Its block as it stands."""
    pytest.importorskip("skipln_fairseq.nn.residual")
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    space = {}
    exec(code, space)
    x = torch.randn(2, 3, 512)
    assert space["block"](x).shape == x.shape


def test_the_grid_on_the_page_is_one_and_every_key_is_told(tmp_path):
    """In twelve lines; the keys are those that a wrong one is refused with."""
    text = (DOCS / "compare.md").read_text("utf-8")
    (grid,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(grid.splitlines()) == 12
    file = tmp_path / "grid.yaml"
    file.write_text(grid, "utf-8")
    assert [*read_grid(file).variants] == ["Post-LN", "rSkip+LN 2", "Pre-LN"]
    for wrong in ("wrong: 1\n", None):
        content = grid + wrong if wrong else grid.replace("  mine: {", "  mine: {wrong: 1, ")
        file.write_text(content, "utf-8")
        with pytest.raises(UserError, match="valid are") as refused:
            read_grid(file)
        for key in str(refused.value).partition("valid are ")[2].split(", "):
            assert re.search(rf"^\| `[^|]*\b{key}`", text, re.MULTILINE), key
