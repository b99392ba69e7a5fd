"""``python -m skipln_fairseq.family``: every variant in the table and on the map."""

from pathlib import Path

import pytest

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.family.__main__ import main
from skipln_fairseq.family.tables import HEADINGS, _table, family_tables
from skipln_fairseq.models.family import REGISTRIES, declarations
from skipln_fairseq.nn import MIXINGS, PLACEMENTS, SKIPS, SOLVERS, SOURCES
from skipln_fairseq.nn.valid import valid_mixings, valid_norms, valid_placements, valid_solvers, valid_sources


def rows_below(text, heading):
    """The cells of the table below a heading, without its two lines of head."""
    table = text.partition(f"### {heading}\n\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_the_tables_have_every_variant(capsys):
    main([])
    text = capsys.readouterr().out
    found = [row[0] for registry in REGISTRIES for row in rows_below(text, HEADINGS[registry.axis])]
    assert found == [variant.title for variant in declarations()]


def test_the_matrix_is_what_is_accepted():
    """Each field against the norms and placements that a model is built with; the own choice is in bold."""
    rows = rows_below(family_tables(), "Which placement goes with which skip type")
    assert [row[0] for row in rows] == [f"`{skip}`" for skip in SKIPS]
    for skip, row in zip(SKIPS, rows, strict=True):
        norms = valid_norms(skip)
        for placement, cell in zip(PLACEMENTS, row[1:-1], strict=True):
            of_token, of_batch = (
                norm in norms and placement in valid_placements(skip, norm) for norm in ("layer", "batch")
            )
            assert cell.strip("*") == ("✓" if of_batch else "token" if of_token else ""), (skip, placement)
        assert row[-1].strip("*") == ("✓" if "none" in norms else "")
        (own,) = (place for place, cell in zip([*PLACEMENTS, "none"], row[1:], strict=True) if "**" in cell)
        assert own == ("none" if norms[0] == "none" else valid_placements(skip, norms[0])[0])


def test_the_second_matrix_is_what_is_accepted():
    rows = rows_below(family_tables(), "What between the blocks goes with which skip type")
    for skip, row in zip(SKIPS, rows, strict=True):
        choices = [
            (skip, norm, place) for norm in valid_norms(skip) for place in valid_placements(skip, norm)
        ]
        mixings = {name for choice in choices for name in valid_mixings(*choice)} - {"none"}
        solvers = {name for choice in choices for name in valid_solvers(*choice, "none")} - {"none"}
        sources = {*valid_sources(skip, "none")} - {"last"}
        columns = [name for name in (*MIXINGS, *SOLVERS, *SOURCES) if name not in ("none", "last")]
        ticked = {name for name, cell in zip(columns, row[1:], strict=True) if cell}
        assert ticked == mixings | solvers | sources, skip


def test_the_map_has_every_variant_and_is_the_same_each_time(tmp_path, capsys):
    for name in ("one.svg", "two.svg"):
        main(["--map", str(tmp_path / name)])
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    for variant in declarations():
        assert f">{variant.title.replace('&', '&amp;')}<" in text
    assert ">2025<" in text


def test_the_map_in_the_docs_is_todays():
    text = (Path(__file__).parents[2] / "docs" / "family.svg").read_text(encoding="utf-8")
    missing = [v.title for v in declarations() if f">{v.title.replace('&', '&amp;')}<" not in text]
    assert not missing, "python -m skipln_fairseq.family --map docs/family.svg"


def test_a_name_that_is_no_picture_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"\.svg, \.pdf or \.png"):
        main(["--map", str(tmp_path / "map.txt")])
    assert not list(tmp_path.iterdir())


def test_a_bar_in_an_equation_does_not_end_its_cell():
    assert _table(["name", "equation"], [["x", "v/|v|"]]).splitlines()[-1] == r"| x | v/\|v\| |"
