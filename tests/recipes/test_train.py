"""The recipes' trainings and scores."""

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import sacrebleu

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.recipes import __main__ as recipes
from skipln_fairseq.recipes import began
from skipln_fairseq.recipes import evaluate as evaluation
from skipln_fairseq.recipes.evaluate import metrics, tokenised_bleu
from skipln_fairseq.recipes.recipe import read_recipe
from skipln_fairseq.recipes.train import Devices, train_command
from skipln_fairseq.runs import locked, read_lines
from tests.support.recipe_files import KNOWN, RECIPES, TEST, side, small


@pytest.mark.parametrize("name", RECIPES)
def test_variants_differ_in_one_choice_only(name, tmp_path):
    recipe = read_recipe(KNOWN / f"{name}.yaml")
    commands = {
        variant: train_command(recipe, variant, 1, tmp_path, Devices(), {})
        for variant in ("baseline", "pre-ln", "rskip")
    }
    words = [set(command) for command in commands.values()]
    folders = {str(tmp_path / f"{variant}-1") for variant in commands}
    assert (words[1] - words[0]) - folders == {"--norm-placement", "pre"}
    assert (words[2] - words[0]) - folders == {"recursive", "--skip-order", "2"} - words[0]
    assert (words[0] - words[1]) - folders == set()
    assert (words[0] - words[2]) - folders == {"plain"}


def test_an_update_has_the_same_tokens_on_any_devices(tmp_path):
    recipe = read_recipe(KNOWN / "wmt14-en-de.yaml")

    def freq(devices, **extra):
        line = train_command(recipe, "rskip", 1, tmp_path, devices, extra)
        return int(line[line.index("--update-freq") + 1]), line

    def processes(line):
        return int(line[line.index("--distributed-world-size") + 1])

    found, line = freq(Devices(cpu=True))
    assert (found, processes(line), line[0]) == (8, 1, "fairseq-train")
    found, line = freq(Devices(processes=8))
    assert (found, processes(line)) == (1, 8)
    found, line = freq(Devices(processes=2, nodes=2, rendezvous="first:29500"))
    assert (found, processes(line)) == (2, 4)
    assert line[:5] == ["torchrun", "--nproc_per_node", "2", "--nnodes", "2"]
    assert line[line.index("--rdzv_endpoint") + 1] == "first:29500"
    assert line[line.index("--rdzv_id") + 1] == "wmt14-en-de-rskip-1"
    with pytest.raises(UserError, match="give --max-tokens 2048"):
        freq(Devices(processes=16))
    with pytest.raises(UserError, match="--rendezvous HOST:PORT"):
        freq(Devices(nodes=2))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-tokens", "abc"], "--max-tokens abc: valid is a whole number of at least 1"),
        (["--max-tokens", "0"], "--max-tokens 0: valid is"),
        (["--max-tokens"], "--max-tokens True: valid is"),
        (["--max-update", "1e4"], "--max-update 1e4: valid is"),
    ],
)
def test_numbers_that_are_none_are_refused_in_one_line(flags, message, tmp_path):
    (tmp_path / "binary").mkdir()
    with pytest.raises(UserError, match=message):
        recipes.main(["train", "own-data", "--work-dir", str(tmp_path), *flags])


TINY = {
    "arch": "transformer_rskip_tiny",
    "share-all-embeddings": True,
    "criterion": "label_smoothed_cross_entropy",
    "optimizer": "adam",
    "lr": 0.003,
    "max-tokens": 400,
    "max-epoch": 2,
    "keep-last-epochs": 2,
    "num-workers": 0,
    "log-interval": 1,
}


def test_two_processes_train_wmt_and_its_scores_are_those_of_its_files(prepared, tmp_path, capsys):
    recipe, work = prepared("wmt14-en-de", train=TINY, average=2, **{"tokens-per-update": 800})
    rest = [recipe, "--work-dir", str(work), "--variant", "rskip", "--cpu"]
    recipes.main(["train", *rest, "--processes", "2"])
    said = capsys.readouterr().out
    assert "$ torchrun --nproc_per_node 2 --no-python fairseq-train" in said
    log = (work / "rskip-1" / "train.log").read_text()
    assert "distributed init (rank 1)" in log
    recipes.main(["evaluate", *rest])
    scores = json.loads((work / "rskip-1" / "scores.json").read_text())
    assert scores["checkpoint"] == "checkpoint_averaged.pt"
    hypotheses = read_lines(work / "rskip-1" / "test.hypotheses")
    assert len(hypotheses) == 30
    assert scores["bleu"] == sacrebleu.corpus_bleu(hypotheses, [side("de", TEST)]).score
    assert "tok:13a" in scores["bleu_signature"]
    assert scores["compound_split"] is True
    tokens = read_lines(work / "test.tokens.de")
    assert scores["tokenised_bleu"] != scores["bleu"]
    assert tokenised_bleu(tokens, tokens, True) == pytest.approx(100)


def test_a_lower_cased_recipe_is_trained_on_and_scored(prepared, capsys):
    recipe, work = prepared("iwslt14-de-en", train={**TINY, "max-update": 2, "log-interval": 100}, average=0)
    rest = [recipe, "--work-dir", str(work), "--variant", "baseline", "--cpu"]
    with pytest.raises(UserError, match="run train first"):
        recipes.main(["evaluate", *rest])
    recipes.main(["train", *rest])
    # fewer updates than --log-interval: only an epoch's record tells them
    assert re.search(r"100%\S* 2/2 .*loss=\d", capsys.readouterr().err)
    recipes.main(["train", *rest, "--max-update", "6"])
    log = (work / "baseline-1" / "train.log").read_text()
    assert "Loaded checkpoint" in log
    with pytest.raises(UserError, match=r"baseline-1 was begun otherwise \(now --dropout 0.3\)"):
        recipes.main(["train", *rest, "--dropout", "0.3"])
    # the cause, not that it is another training
    with pytest.raises(UserError, match="recipes train recipe: unrecognized arguments: --dropuot"):
        recipes.main(["train", *rest, "--dropuot", "0.3"])
    with (
        locked(work / "baseline-1", "training"),
        pytest.raises(UserError, match="another training, or the end of an interrupted one"),
    ):
        recipes.main(["train", *rest])
    with pytest.raises(UserError, match="--update-freq: this command sets it itself"):
        recipes.main(["train", *rest, "--update-freq", "2"])
    recipes.main(["evaluate", *rest])
    scores = json.loads((work / "baseline-1" / "scores.json").read_text())
    assert "case:lc" in scores["bleu_signature"]
    assert scores["checkpoint"] == "checkpoint_best.pt"
    assert {"tokenised_bleu", "chrf"} <= scores.keys()


@pytest.mark.parametrize("score", [{}, {"bleu": {"lowercase": True}}], ids=["text alone", "score too"])
def test_lower_cased_text_is_scored_without_case(score, tmp_path):
    recipe = read_recipe(Path(small("own-data", tmp_path, text={"lowercase": True}, score=score)))
    for metric in metrics(recipe):
        assert metric.corpus_score(["one two three four"], [["One TWO three four"]]).score == pytest.approx(
            100
        )


@pytest.mark.parametrize(
    ("name", "moses"),
    [("own-data", True), ("iwslt15-en-vi", False)],
    ids=["plain text", "a corpus of tokens"],
)
def test_every_recipe_has_the_bleu_of_old_papers(name, moses, prepared, capsys, monkeypatch):
    """Beside sacreBLEU's: of Moses' tokens, or of the corpus's own."""
    changes = {"subwords": {"kind": "sentencepiece", "size": 110}, "train": {**TINY, "max-update": 1}}
    recipe, work = prepared(name, average=0, **changes)
    lang = "vi" if name == "iwslt15-en-vi" else "de"
    rest = [recipe, "--work-dir", str(work), "--cpu"]
    recipes.main(["train", *rest])
    with pytest.raises(UserError, match="COMET is not installed"):
        recipes.main(["evaluate", *rest, "--comet"])
    assert not (work / "rskip-1" / "generate.log").exists()
    monkeypatch.setattr(
        evaluation.Translations, "lines", lambda _: [f"{line} Ja!" for line in side(lang, TEST)]
    )
    recipes.main(["evaluate", *rest])
    scores = json.loads((work / "rskip-1" / "scores.json").read_text())
    lines, references = [f"{line} Ja!" for line in side(lang, TEST)], side(lang, TEST)
    assert scores["bleu"] == sacrebleu.corpus_bleu(lines, [references]).score
    split = [
        [line.replace(".", " .").replace("!", " !").replace("&", "&amp;") for line in each]
        for each in (lines, references)
    ]
    expected = tokenised_bleu(*(split if moses else (lines, references)), False)
    assert scores["tokenised_bleu"] == pytest.approx(expected)
    assert expected != pytest.approx(tokenised_bleu(*((lines, references) if moses else split), False))


def test_a_model_is_evaluated_on_no_data_but_those_it_had(prepared):
    """Its dictionary may have the same size and other words."""
    recipe, work = prepared("own-data", train={**TINY, "max-update": 1})
    rest = [recipe, "--work-dir", str(work), "--variant", "baseline", "--cpu"]
    recipes.main(["train", *rest])
    prepared("own-data", train={**TINY, "max-update": 1}, clean={"longest": 9, "ratio": 1.5})
    with pytest.raises(
        UserError, match=r"baseline-1 was trained on other data than .*binary is now: train again"
    ):
        recipes.main(["evaluate", *rest])
    with pytest.raises(UserError, match=r"begun otherwise \(with other data\)"):
        recipes.main(["train", *rest])


def test_what_does_not_shape_a_training_may_change(tmp_path):
    flags = {"lr": 0.1, "cpu": True, "num-workers": 2, "log-interval": 10}
    began.go_on(tmp_path / "run", tmp_path, {**flags, "dropout": 0.5})
    began.go_on(tmp_path / "run", tmp_path, flags)  # nothing was trained yet
    (tmp_path / "run" / "checkpoint_last.pt").write_text("")
    began.go_on(tmp_path / "run", tmp_path, {"lr": "1e-1", "fp16": True})
    with pytest.raises(UserError, match=r"begun otherwise \(now --max-tokens 100\)"):
        began.go_on(tmp_path / "run", tmp_path, {**flags, "max-tokens": 100})
    with pytest.raises(UserError, match=r"begun otherwise \(now --clip-norm 0.5\)"):
        began.go_on(tmp_path / "run", tmp_path, {**flags, "clip-norm": 0.5})
    (tmp_path / "run" / "settings.json").write_text("")
    with pytest.raises(UserError, match=r"settings\.json cannot be read: remove .*run and train again"):
        began.go_on(tmp_path / "run", tmp_path, flags)


@pytest.mark.parametrize(
    ("there", "taken", "line"),
    [
        (0, 0, "there are 0: the best one is taken"),
        (2, 2, "there are 2: these are taken"),
        (5, 5, None),
        (7, 5, None),
    ],
)
def test_a_short_training_averages_what_it_has(tmp_path, there, taken, line):
    for name in ("_last", "_best", "_1_100", *range(1, there + 1)):
        (tmp_path / f"checkpoint{name}.pt").touch()
    said = []
    assert evaluation._epochs_to_average(SimpleNamespace(average=5), tmp_path, said.append) == taken
    assert [each.partition(", and ")[2] for each in said] == ([] if line is None else [line])


def test_tokenised_bleu_is_multi_bleus():
    hypotheses = ["the cat sat on the mat .", "a well-known dog barks"]
    references = ["the cat is on the mat .", "a well-known dog barks loudly"]
    # of the 1- to 4-grams of 11 words, and 12 words in the references
    precision = (10 / 11) * (7 / 9) * (4 / 7) * (2 / 5)
    expected = 100 * math.exp(1 - 12 / 11) * precision**0.25
    assert tokenised_bleu(hypotheses, references, False) == pytest.approx(expected)
    # with "well ##AT##-##AT## known" 13 words and 14
    precision = (12 / 13) * (9 / 11) * (6 / 9) * (4 / 7)
    expected = 100 * math.exp(1 - 14 / 13) * precision**0.25
    assert tokenised_bleu(hypotheses, references, True) == pytest.approx(expected)
    apart = [[line.replace("-", " @-@ ") for line in each] for each in (hypotheses, references)]
    assert tokenised_bleu(*apart, True) == tokenised_bleu(*apart, False)
