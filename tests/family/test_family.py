"""``python -m skipln_fairseq.family``: every variant in the table and on the map."""

from pathlib import Path

import pytest

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.family.__main__ import main
from skipln_fairseq.models.family import declarations


def test_the_table_has_every_variant(capsys):
    main([])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[0].lstrip("| ") for row in rows[2:]] == [v.title for v in declarations()]


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
