"""What a comparison's YAML file may say."""

import pytest

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compare import __main__ as compare
from skipln_fairseq.compare.grid import read_grid
from skipln_fairseq.runs.settings import words
from tests.support.commands import REPOSITORY
from tests.support.comparisons import make_grid, written


@pytest.fixture
def grid(tmp_path):
    return make_grid(tmp_path)


def test_flags_become_words():
    flags = {"lr": 0.001, "cpu": True, "bf16": False, "clip-norm": None, "adam-betas": "(0.9, 0.98)"}
    assert words(flags) == ["--lr", "0.001", "--cpu", "--adam-betas", "(0.9, 0.98)"]
    assert words({"skip-scale": -0.00001}) == ["--skip-scale=-1e-05"]  # argparse takes -1e-05 for a flag


def test_data_override_the_grids_flags_and_variants_override_both(grid, tmp_path):
    grid["train"] = {"a": 1, "b": 1, "c": 1}
    grid["data"]["d"]["train"] = {"b": 2, "c": 2}
    grid["variants"]["good"] = {"c": 3}
    read = read_grid(written(grid, tmp_path))
    assert read.flags(read.data[0], "good") == {"a": 1, "b": 2, "c": 3}
    assert read.flags(read.data[0], "same") == {"a": 1, "b": 2, "c": 2}


def test_a_misspelt_key_is_named_beside_the_missing_one(grid, tmp_path):
    grid["trian"] = grid.pop("train")
    with pytest.raises(UserError, match="the grid has no 'train' and has 'trian': valid are title"):
        read_grid(written(grid, tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "none"}, "baseline 'none': valid are 'plain', 'good', 'same'"),
        ({"seeds": []}, r"seeds \[\]: valid is a list"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seeds": [0]}, "above 0"),
        ({"variants": {}}, "variants: valid is a mapping"),
        ({"train": {"--lr": 1}}, "'--lr': write a flag's name without dashes"),
        ({"train": {"lr": [1]}}, "lr: valid is one value"),
        ({"train": {"seed": 1}}, "seed is set by this command itself"),
        ({"tune": {"flag": "lr", "values": [1], "seed": 1}}, "valid is a list of at least two"),
        ({"tune": {"flag": "lr", "values": [1, 2]}}, "tune has no 'seed'"),
        ({"data": {"d": {"path": "x", "source": "x"}}}, "data: d has no 'reference'"),
        ({"contrasts": "good"}, "contrasts good: valid is a list of pairs"),
        ({"contrasts": [["good"]]}, r"contrasts \[\['good'\]\]: valid is a list of pairs"),
        ({"contrasts": [["good", "bad"]]}, "contrasts: 'bad': valid are 'plain', 'good', 'same'"),
        ({"contrasts": [["good", "good"]]}, "valid are pairs of two variants, each pair once"),
        (
            {"contrasts": [["good", "same"], ["same", "good"]]},
            "valid are pairs of two variants, each pair once",
        ),
        ({"contrasts": [["good", "plain"]]}, "'plain' is the baseline, and compared with all anyway"),
        ({"seeds": [2**32]}, "above 0, below 2³²"),
        ({"tune": {}}, "tune: valid is a mapping"),
        ({"tune": {"flag": "x", "values": [1, True], "seed": 1}}, "at least two, all different"),
        *(
            ({"train": {flag: True}}, f"train: {flag} is set by this command itself")
            for flag in ("no-save", "checkpoint-suffix", "disable-validation", "quiet", "score-reference")
        ),
        ({"evaluate": {"target-lang": False}}, "evaluate: target-lang False: write it in quotation marks"),
        ({"measure": "taste"}, "measure 'taste': valid are translation, classification"),
        ({"measure": ["taste"]}, r"measure \"\['taste'\]\": valid are"),
        ({"sedes": 1}, "the grid has 'sedes': valid are title"),
        ({"baseline": ["plain"]}, "valid are 'plain', 'good', 'same'"),
        ({"seeds": [True]}, r"seeds \[True\]: valid is a list"),
        ({"data": {"d": {"path": 3, "source": "x", "reference": "y"}}}, "data: d: path 3: valid is a path"),
        ({"tune": {"flag": "lr", "values": [0.1, "0.1"], "seed": 1}}, "at least two, all different"),
        ({"tune": {"flag": "lr", "values": [1, 1.0], "seed": 1}}, "at least two, all different"),
        ({"tune": {"flag": "lr", "values": [1, None], "seed": 1}}, "all different and none null"),
        (
            {"tune": {"flag": ["lr"], "values": [1, 2], "seed": 1}},
            r"tune: flag \['lr'\]: valid is a flag's name",
        ),
        ({"tune": {"flag": "lr", "values": [[0.1], 1], "seed": 1}}, "tune: values: lr: valid is one value"),
        (
            {"tune": {"flag": "seed", "values": [1, 2], "seed": 1}},
            "tune: values: seed is set by this command itself",
        ),
        ({"tune": {"flag": "lr", "values": [1, 2], "seed": 1}}, "lr is tuned: leave it out of train, data"),
        (
            {"tune": {"flag": "good", "values": ["a", "b"], "seed": 1}},
            "good is tuned: leave it out of train, data and variants",
        ),
        ({"tune": {"flag": "x", "values": [1, 2], "seed": 1, "train": 3}}, "tune: train: valid are flags"),
        (
            {"tune": {"flag": "x", "values": [1, 2], "seed": 1, "train": {"x": 3}}},
            "x is tuned: leave it out of train, data and variants",
        ),
        (
            {"tune": {"flag": "x", "values": [1, 2], "seed": 1, "also": {"bad": [3]}}},
            "tune: also: 'bad': valid are 'plain', 'good', 'same'",
        ),
        *(
            (
                {"tune": {"flag": "x", "values": [1, 2], "seed": 1, "also": {"good": more}}},
                r"tune: also: good .*: valid is a list of at least one, all different and none null, and none of \[1",
            )
            for more in (3, [], [None], [2], ["2.0"], [3, 3.0])
        ),
        ({"tune": {"flag": "x", "values": [1, 2], "seed": 1, "also": [3]}}, "tune: also: valid is a mapping"),
        (
            {"tune": {"flag": "x", "values": [1, 2], "seed": 1, "also": {"good": [[3]]}}},
            "tune: also: good: x: valid is one value",
        ),
        ({"tune": {"flag": "lr", "values": [0.001, "1e-3"], "seed": 1}}, "at least two, all different"),
        ({"score": {"tokenise": "none"}}, "score: {'tokenise': 'none'}: sacreBLEU cannot compute it"),
        ({"score": {"tokenize": "xx"}}, "score: {'tokenize': 'xx'}: sacreBLEU cannot compute it"),
        ({"measure": "classification", "score": {"top": 3}}, "score: top: the accuracy has no options"),
    ],
)
def test_a_grid_that_says_nothing_useful_is_refused_in_one_line(grid, tmp_path, change, message):
    with pytest.raises(UserError, match=message) as error:
        read_grid(written({**grid, **change}, tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["data", "variants"])
@pytest.mark.parametrize("name", ["", ".", "..", "x" * 201, "ä" * 101])
def test_what_names_no_folder_is_refused_in_one_line(grid, tmp_path, kind, name):
    grid[kind][name] = grid["data"]["d"] if kind == "data" else {}
    with pytest.raises(UserError, match=rf"{kind}: .* names files, too: valid are 1 to 200 bytes"):
        read_grid(written(grid, tmp_path))


def test_variants_whose_runs_would_lie_in_one_folder_are_refused(grid, tmp_path):
    grid["variants"] |= {"x=2": {"a": 1}, "x 2": {"a": 2}}
    with pytest.raises(UserError, match="variants: 'x=2' and 'x 2' would get the same"):
        read_grid(written(grid, tmp_path))


def test_data_whose_figures_would_have_one_name_are_refused(grid, tmp_path):
    grid["data"] = {"6 layers": grid["data"]["d"], "6/layers": grid["data"]["d"]}
    with pytest.raises(UserError, match="'6 layers' and '6/layers' would get the same"):
        read_grid(written(grid, tmp_path))
    grid["data"] = {"ä": grid["data"]["6 layers"], "ö": grid["data"]["6 layers"]}
    assert [data.name for data in read_grid(written(grid, tmp_path)).data] == ["ä", "ö"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "line 2: not YAML"),
        ("a: 1\na: 2", "'a' is given twice"),
        ("variants:\n  3: {}\n  '3': {}", "3 is given twice"),
        ("variants:\n  1: {}\n  1.0: {}", "1 is given twice"),
        ("a: 2024-02-30", "not YAML: day is out of range for month"),
        ("[" * 5000, "not YAML"),
        ("a: 1" + "0" * 5000, "not YAML"),
        ("", "the grid: valid is a mapping"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_grid_is_refused_in_one_line(tmp_path, text, message):
    file = tmp_path / "grid.yaml"
    if text is not None:
        file.write_text(text + "\n")
    with pytest.raises(UserError, match=message) as error:
        read_grid(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "examples" / "evidence").glob("*.yaml")), ids=lambda f: f.stem
)
def test_the_grids_of_the_evidence_can_be_read(file):
    grid = read_grid(file)
    depths = {"multi30k-depth": [6, 12, 24], "multi30k-depth-converged": [12]}
    assert len(grid.seeds) > 1 or file.stem in ("cifar10-memory", "multi30k-favor-finetuned")
    assert grid.tune is None or grid.tune.flag == "lr"
    if file.stem in depths:
        assert [data.train["encoder-layers"] for data in grid.data] == depths[file.stem]


def test_a_single_sentence_is_no_test_set(grid, tmp_path):
    (tmp_path / "data" / "test.de").write_text("one\n")
    with pytest.raises(UserError, match=r"test\.de: fewer than two sentences to test on"):
        compare.main([str(written(grid, tmp_path)), "--work-dir", str(tmp_path / "work")])


@pytest.mark.parametrize("missing", ["test.de", "dict.en.txt"])
def test_data_that_are_not_there_are_refused(grid, tmp_path, missing):
    (tmp_path / "data" / missing).unlink()
    (tmp_path / "data" / "dict.de.txt").unlink()
    with pytest.raises(UserError, match=r"no such file|no binarised data"):
        compare.main([str(written(grid, tmp_path)), "--work-dir", str(tmp_path / "work")])
