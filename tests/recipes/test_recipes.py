"""skipln_fairseq.recipes: what is prepared, and mistakes."""

import gzip
import json
import re
from pathlib import Path

import pytest
import yaml

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.recipes import __main__ as recipes
from skipln_fairseq.recipes.recipe import read_recipe
from skipln_fairseq.runs import read_lines
from tests.support.commands import run
from tests.support.recipe_files import KNOWN, RECIPES, TEST, TRAIN, VALID, plain, side, small, write_files


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_is_prepared_from_its_real_formats(name, prepared):
    recipe, work = prepared(name)
    langs = read_recipe(Path(recipe)).langs
    for lang in langs:
        assert read_lines(work / f"test.{lang}") == side(lang, TEST)
    (tokens,) = work.glob("tokens-*")
    counts = json.loads((tokens / "counts.json").read_text())
    assert counts["test"] == 30
    assert counts["train"] + (counts["valid"] if name == "iwslt14-de-en" else 0) == 300
    assert counts["valid"] == (13 if name == "iwslt14-de-en" else 20)
    for part in ("train", "valid", "test"):
        assert (work / "binary" / f"{part}.{langs[0]}-{langs[1]}.{langs[1]}.bin").stat().st_size > 100
    dictionary = (work / "binary" / f"dict.{langs[0]}.txt").read_text()
    assert len(dictionary.splitlines()) > 20


def test_what_is_prepared_is_not_prepared_again(prepared, tmp_path):
    _, work = prepared("own-data")
    before = {file: file.stat().st_mtime_ns for file in work.glob("*-*/*")}
    prepared("own-data")
    assert {file: file.stat().st_mtime_ns for file in work.glob("*-*/*")} == before
    prepared("own-data", subwords={"kind": "sentencepiece", "size": 100})
    assert len(list(work.glob("pieces-*"))) == len(list(work.glob("binary-*"))) == 2
    assert len(list(work.glob("text-*"))) == 1
    assert len(read_lines(work / "binary" / "dict.en.txt")) < 100


def test_own_text_that_has_changed_is_prepared_again(prepared, tmp_path):
    _, work = prepared("own-data")
    before = (work / "binary").resolve()
    recipe, files = str(tmp_path / "recipe.yaml"), tmp_path / "files"
    (files / "test.en").write_bytes(plain(reversed(side("en", TEST))))
    recipes.main(["prepare", recipe, "--from", str(files), "--work-dir", str(work), "--workers", "1"])
    assert read_lines(work / "test.en") == side("en", TEST)[::-1]
    assert (work / "binary").resolve() != before


def test_languages_that_were_interchanged_are_prepared_again(prepared):
    files = {part: [[f"{part}.en", f"{part}.de"]] for part in ("train", "valid", "test")}
    _, work = prepared("own-data", **{"corpus": files, "source-lang": "de", "target-lang": "en"})
    assert read_lines(work / "test.de") == side("en", TEST)
    prepared("own-data", **{"corpus": files, "source-lang": "en", "target-lang": "de"})
    assert read_lines(work / "test.de") == side("de", TEST)


def test_characters_of_the_test_set_are_replaced_in_its_tokens_alone(prepared):
    replace = {"test": {"w": "’"}}
    _, work = prepared("multi30k-en-de", replace=replace)
    assert read_lines(work / "test.en") == side("en", TEST)
    assert read_lines(work / "test.tokens.en") == [line.replace("w", "’") for line in side("en", TEST)]
    (tokens,) = work.glob("tokens-*")
    assert "’" not in (tokens / "train.en").read_text() + (tokens / "valid.en").read_text()


def test_carriage_returns_in_a_sentence_shift_no_other(tmp_path):
    """There is one on each side, in another pair: as many lines on both, even if they end some."""
    files, work = tmp_path / "files", tmp_path / "work"
    files.mkdir()
    write_files("own-data", files)
    for lang, number in (("en", 11), ("de", 201)):
        lines = side(lang, TRAIN)
        lines[number] = "\r".join(lines[number].split(" ", 1))
        (files / f"train.{lang}").write_bytes(plain(lines))
    recipe = small("own-data", tmp_path, subwords={"kind": "subword-nmt", "size": 110})
    recipes.main(["prepare", recipe, "--from", str(files), "--work-dir", str(work), "--workers", "1"])
    (log,) = work.glob("binary-*/preprocess.log")
    assert re.findall(r"train\.(\w+): (\d+) sents", log.read_text()) == [("en", "300"), ("de", "300")]


def test_pairs_of_which_none_is_left_are_told(prepared):
    with pytest.raises(UserError, match="corpus: train: no pairs are left of it"):
        prepared("own-data", clean={"longest": 1, "ratio": 1}, subwords={"kind": "subword-nmt", "size": 110})


def test_public_files_that_have_changed_are_refused(prepared, tmp_path):
    prepared("multi30k-en-de")
    recipe, files = str(tmp_path / "recipe.yaml"), tmp_path / "files"
    (files / "val.en.gz").write_bytes(gzip.compress(plain(side("en", VALID)[::-1])))
    with pytest.raises(UserError, match=r"val\.en\.gz is sha256:.* is recorded in"):
        recipes.main(["prepare", recipe, "--from", str(files), "--work-dir", str(tmp_path / "work")])


def test_moses_text_is_as_the_literature_has_it(prepared):
    _, work = prepared("wmt14-en-de")
    words = TEST[0][0].split()
    expected = f"{words[0]} {words[1]} {words[2]} the well @-@ known {words[5]} &amp; the {words[8][:-1]} ."
    assert read_lines(work / "test.tokens.en")[0] == expected
    _, work = prepared("iwslt14-de-en")
    assert read_lines(work / "test.tokens.de")[0].startswith("die ")


def test_sides_of_other_lengths_are_refused(tmp_path):
    write_files("own-data", tmp_path)
    (tmp_path / "train.de").write_text("one\n")
    arguments = ["prepare", "own-data", "--from", str(tmp_path), "--work-dir", str(tmp_path / "work")]
    with pytest.raises(UserError, match=r"train\.en and train\.de have not the same number of sentences"):
        recipes.main(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["iwslt14-de-en", "--from", "."],
            r"de-en\.tgz is missing: put there what https://dl\.fbaipublicfiles\.com/",
        ),
        (["own-data"], r"train\.en is missing: give --from FOLDER with train\.en in it"),
    ],
)
def test_a_missing_file_is_named_with_where_to_put_it(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        recipes.main(["prepare", *arguments, "--work-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nothing"], "nothing: no such recipe: valid are generated-en-de, iwslt14-de-en"),
        (["train", "own-data", "--variant", "x"], "binary is missing: run prepare first"),
        (["evaluate", "own-data", "--variant", "x"], "--variant x: valid are "),
        (["train", "own-data", "--processes", "0"], "valid is a whole number of at least 1"),
        (["prepare", "own-data", "--lr", "1"], "--lr: prepare has no such flag"),
        (["train", "own-data", "--seed", "-1"], "--seed -1: valid is a whole number of at least 0"),
        (["evaluate", "own-data", "--seed", str(2**32)], "--seed 4294967296: valid is"),
        (["train", "own-data", "stray"], "stray: valid are fairseq-train's flags"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        recipes.main([*arguments, "--work-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subwords": {"kind": "x", "size": 1}}, "kind 'x': valid are sentencepiece, subword-nmt"),
        (
            {"corpus": {"train": ["a"], "valid": ["{lang}"], "test": ["{lang}"]}},
            "corpus: train: valid is a list",
        ),
        ({"train": {"save-dir": "x"}}, "save-dir is set by this command itself"),
        ({"files": [{"tried": True}]}, "each has a url or a name"),
        ({"files": [{"url": 3}]}, "files: url 3: valid is an address"),
        ({"files": [{"url": "nowhere/x"}]}, "files: url nowhere/x: valid is an address"),
        ({"files": [{"url": "https://nowhere/"}]}, "files: name '': valid is a file's name"),
        ({"files": [{"name": 3}]}, "files: name 3: valid is a file's name"),
        ({"files": [{"name": "x", "checksum": "deadbeef"}]}, "x: checksum deadbeef: valid are md5:… and"),
        ({"files": [{"name": "x", "checksum": 123}]}, "x: checksum 123: valid are md5:… and"),
        ({"files": [{"name": "x", "tried": "no"}]}, "files: x: tried no: valid are true and false"),
        (
            {"corpus": {"train": [[1, 2]], "valid": ["{lang}"], "test": ["{lang}"]}},
            "corpus: train: valid is a list",
        ),
        ({"text": {"moses": "no"}}, "text: moses no: valid are true and false"),
        ({"text": {"drop": 3}}, "text: drop 3: valid are characters"),
        ({"score": {"tokenised": 1}}, "score: tokenised 1: valid are true and false"),
        ({"text": {"mose": True}}, "text has 'mose'"),
        ({"more": 1}, "the recipe has 'more'"),
        ({"source-lang": False}, "source-lang False: valid is a word"),
        ({"source-lang": "../x"}, r"language '\.\./x': valid are letters"),
        ({"source-lang": "de"}, "source-lang and target-lang are both de"),
        ({"work-dir": None}, "work-dir None: valid is a word"),
        ({"files": 3}, "files 3: valid is a list"),
        ({"tokens-per-update": "many"}, "tokens-per-update many: valid is a whole number of at least 0"),
        (
            {"tokens-per-update": 10, "train": {"arch": "a"}},
            "max-tokens, with tokens-per-update, None: valid is",
        ),
        ({"average": -1}, "average -1: valid is a whole number of at least 0"),
        (
            {"subwords": {"kind": "sentencepiece", "size": True}},
            "subwords: size True: valid is a whole number",
        ),
        (
            {"clean": {"longest": 1.5, "ratio": 2}},
            "clean: longest 1.5: valid is a whole number of at least 1",
        ),
        ({"clean": {"longest": 9, "ratio": "2"}}, "clean: ratio 2: valid is a number of at least 1"),
        (
            {"corpus": {"train": ["{lang}"], "valid": {"every": 0}, "test": ["{lang}"]}},
            "corpus: valid: every 0: valid is a whole number of at least 2",
        ),
        ({"replace": {"test": {"ab": "c"}}}, "replace: test: ab: valid is one character"),
        (
            {"score": {"bleu": {"tokenise": "13a"}}},
            "score: bleu: {'tokenise': '13a'}: sacreBLEU cannot compute it",
        ),
        ({"variants": {"a": {"seed": 1}}}, "variants: a: seed is set by this command itself"),
    ],
)
def test_a_recipe_with_a_mistake_is_refused_in_one_line(change, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        read_recipe(Path(small("own-data", tmp_path, **change)))
    assert "\n" not in str(error.value)


def test_variants_are_words_also_where_yaml_reads_a_number(tmp_path):
    recipe = read_recipe(Path(small("own-data", tmp_path, variants={2: {"skip-order": 2}, True: None})))
    assert set(recipe.variants) == {"2", "True"}
    recipe.check_variant("2")
    with pytest.raises(UserError, match="--variant x: valid are True, 2"):
        recipe.check_variant("x")


def test_every_download_that_was_not_tried_says_so():
    for name in RECIPES:
        content = yaml.safe_load((KNOWN / f"{name}.yaml").read_text())
        assert all(entry["tried"] is False for entry in content["files"] if "url" in entry)


@pytest.mark.parametrize("module", ["skipln_fairseq.recipes", "examples.recipes"])
def test_a_recipe_is_shown_to_be_copied(module, tmp_path):
    shown = run("-m", module, "show", "own-data").output
    assert shown == (KNOWN / "own-data.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(shown)
    assert read_recipe(tmp_path / "mine.yaml").name == "mine"
