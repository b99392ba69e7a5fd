"""python -m skipln_fairseq.compare: runs that are interrupted, fail or diverge."""

import json
import os
import re
import threading
import time

import pytest
import sacrebleu
import torch

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compare import __main__ as compare
from skipln_fairseq.compare.experiment import Experiment
from skipln_fairseq.compare.grid import read_grid
from tests.support.comparisons import SENTENCES, written


def test_what_is_there_is_not_done_again(compared):
    table, printed = compared()
    assert printed.count("BLEU") == 9
    assert table["missing"] == []
    again, printed = compared()
    assert "BLEU" not in printed
    assert again == table
    _, printed = compared(seeds=[1, 2, 3, 4])
    assert printed.count("BLEU") == printed.count("seed 4") == 3


def test_the_records_of_runs_are_all_that_a_report_needs(compared, tmp_path):
    """So that they can be kept, and taken to another machine, without checkpoints, logs and text."""
    tune = {"flag": "lr", "values": [3.0, 1.0, 2.0], "seed": 1}
    table, _ = compared("--samples=0", tune=tune, train={"arch": "a"})
    kept = {"trained.json", "test-*.json", "test-*.csv"}
    for file in (tmp_path / "work" / "runs").rglob("*"):
        if file.is_file() and not any(file.match(name) for name in kept):
            file.unlink()
    again, printed = compared("--samples=0", tune=tune, train={"arch": "a"})
    assert "trained" not in printed
    assert again == table
    record = json.loads(next((tmp_path / "work").rglob("trained.json")).read_text())
    assert record["command"] in table["commands"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("trained.json", '{"div'), ("test-*.json", ""), ("test-*.csv", "1,2\n3"), ("test-*.csv", "")],
)
def test_a_damaged_record_is_named(compared, tmp_path, name, text):
    compared()
    record = sorted((tmp_path / "work" / "runs").rglob(name))[0]
    record.write_text(text)
    with pytest.raises(UserError, match=f"{re.escape(str(record))} is damaged: copy it again, or remove it"):
        compared("--report-only")


def test_a_model_that_was_left_behind_is_not_taken_for_none(compared, tmp_path):
    """It diverged after a checkpoint, which is not where its record is: no score of 0."""
    compared()
    for file in (tmp_path / "work" / "runs" / "d" / "plain").rglob("*"):
        if file.name == "trained.json":
            file.write_text(json.dumps(json.loads(file.read_text()) | {"diverged": True}))
        elif file.suffix == ".pt" or file.match("test-*.json"):
            file.unlink()
    table, printed = compared(fails=True)
    assert printed.count("checkpoint_best.pt is missing") == 3
    assert table["missing"] == ["plain, seed 1", "plain, seed 2", "plain, seed 3"]


def test_a_report_has_the_commands_that_ran(compared, tmp_path):
    table, _ = compared()
    (tmp_path / "work").rename(tmp_path / "elsewhere")
    grid = tmp_path / "grid.yaml"
    compare.main([str(grid), "--work-dir", str(tmp_path / "elsewhere"), "--report-only"])
    again = json.loads((tmp_path / "elsewhere" / "grid" / "results.json").read_text())
    assert again["data"] == [table]


def test_records_without_curves_and_statistics_are_read_with_logs_and_outputs(compared, tmp_path):
    """Those of runs that ended before records held them."""
    table, _ = compared()
    for file in (tmp_path / "work" / "runs").rglob("trained.json"):
        record = json.loads(file.read_text())
        del record["curve"], record["train_loss"], record["command"], record["checkpoint"]
        file.write_text(json.dumps(record))
        next(file.parent.glob("test-*.csv")).unlink()
    assert compared()[0] == table


def test_the_report_alone_runs_nothing_and_says_what_is_missing(compared):
    table, printed = compared("--report-only")
    assert "BLEU" not in printed
    assert len(table["missing"]) == 9
    assert table["rows"]["good"]["verdict"] == "missing"


def test_each_variant_chooses_what_has_the_lowest_validation_loss(compared):
    tune = {"flag": "lr", "values": [3.0, 1.0, 2.0], "seed": 1}
    table, printed = compared(tune=tune, train={"arch": "a"})
    assert table["rows"]["good"]["chosen"] == 1.0
    assert table["rows"]["good"]["losses"]["3.0"] == pytest.approx(3 + 1 / 3)
    assert printed.count("validation loss") == 9
    # of the nine cells the three of the tuning's seed were trained already
    assert sum(command.count("fairseq-train") for command in table["commands"]) == 9 + 6
    assert all("--lr 1.0" in line for line in table["commands"] if "--seed 2" in line)


def test_a_tuning_may_have_flags_of_its_own(compared, tmp_path):
    """Its trainings are no cells then: the seed that it has is trained again."""
    tune = {"flag": "lr", "values": [3.0, 1.0], "seed": 1, "train": {"max-update": 7}}
    table, printed = compared(
        tune=tune, train={"arch": "a", "max-update": 9}, variants={"plain": None, "good": None}
    )
    assert {total for _, total in re.findall(r"^\[(\d+)/(\d+) trained", printed, re.MULTILINE)} == {"10"}
    commands = [line for line in table["commands"] if "fairseq-train" in line]
    assert sum("--max-update 7" in line for line in commands) == 4
    assert sum("--max-update 9" in line and "--lr 1.0" in line for line in commands) == 6
    report = (tmp_path / "work" / "grid" / "report.md").read_text()
    assert "the one with the lowest validation loss, with seed 1 and max-update 7:" in report


def test_the_trainings_of_a_whole_grid_are_counted(compared):
    """Those of the seeds too while the tuning runs; its own seed is trained then, and is evaluated only."""
    tune = {"flag": "lr", "values": [3.0, 1.0], "seed": 1}
    _, printed = compared(tune=tune, train={"arch": "a"})
    counts = re.findall(r"^\[(\d+)/(\d+) trained, \d+ min left\]", printed, re.MULTILINE)
    assert {total for _, total in counts} == {"12"}
    ended = [int(count) for count, _ in counts]
    assert sorted(set(ended)) == list(range(1, 13))
    assert len(ended) == 12 + 3  # and an evaluation of each variant's tuned seed
    _, printed = compared(seeds=[1, 2, 3, 4], tune=tune, train={"arch": "a"})
    assert {total for _, total in re.findall(r"^\[(\d+)/(\d+) trained", printed, re.MULTILINE)} == {"3"}


def test_seeds_that_a_choice_finds_trained_are_not_counted(compared):
    variants = ("plain", "good")
    compared(train={"arch": "a"}, variants={name: {"lr": 1.0} for name in variants})
    tune = {"flag": "lr", "values": [3.0, 1.0], "seed": 1}
    _, printed = compared(tune=tune, train={"arch": "a"}, variants=dict.fromkeys(variants))
    counts = re.findall(r"^\[(\d+)/(\d+) trained", printed, re.MULTILINE)
    assert counts[-1] == ("2", "2")


def test_what_waits_for_its_tuning_lets_others_go_first(compared, tmp_path):
    """The tuning of one variant does not end before both seeds of the other one are there."""
    seen = []

    def let_go():
        deadline = time.monotonic() + 200
        while len(list(tmp_path.glob("work/runs/d/plain/seed-*/test-*.json"))) < 2:
            if time.monotonic() > deadline:
                seen.append("the seeds waited")
                break
            time.sleep(0.05)
        seen.append(len(list(tmp_path.glob("work/runs/d/slow/*/trained.json"))))
        (tmp_path / "go").touch()

    release = threading.Thread(target=let_go)
    release.start()
    table, printed = compared(
        "--processes=3",
        variants={"slow": {"behave": "wait"}, "plain": None},
        train={"arch": "a"},
        tune={"flag": "lr", "values": [3.0, 1.0], "seed": 1},
        seeds=[1, 2],
    )
    release.join()
    assert seen == [0]
    assert table["missing"] == []
    assert len(re.findall(r"^\[.*\] d / .*: ", printed, re.MULTILINE)) == 8


def test_what_a_run_took_and_gave_is_kept(compared):
    table, _ = compared()
    row = table["rows"]["plain"]
    assert (row["parameters"], row["tokens_per_second"]) == (1234, 200)
    assert row["peak_bytes"] > 1 << 20
    assert row["loss"] == pytest.approx(2 + 1 / 3)
    assert row["loss_each"] == [row["loss"]] * 3
    assert row["train_loss_each"] == [pytest.approx(2 + 0.5 / 3)] * 3
    assert row["train_loss"] == pytest.approx(2 + 0.5 / 3)
    assert row["updates_each"] == [3, 3, 3]
    assert table["curves"]["plain"][0] == [[1, 3.0], [2, 2.5], [3, pytest.approx(2 + 1 / 3)]]
    lines = [" ".join(line.split()[:-2] if (n + 1) % 3 else line.split()) for n, line in enumerate(SENTENCES)]
    lines = [" ".join(w.split()[:-1]) if (n + 1) % 3 == 0 and n % 10 == 1 else w for n, w in enumerate(lines)]
    assert row["each"][0] == sacrebleu.corpus_bleu(lines, [SENTENCES]).score


def test_chrf_has_the_case_of_bleu(compared):
    table, _ = compared(score={"lowercase": True})
    assert all("case:lc" in signature for signature in table["signatures"])
    assert len(table["signatures"]) == 2


def test_a_diverged_run_counts_with_empty_translations(compared):
    table, printed = compared(variants={"plain": None, "bad": {"behave": "diverge"}})
    row = table["rows"]["bad"]
    assert row["each"] == [0, 0, 0]
    assert (row["failed"], row["verdict"], row["loss"]) == (3, "worse", None)
    assert printed.count("BLEU 0.00") == 3


def test_a_checkpoint_that_was_removed_is_no_diverged_model(compared, tmp_path):
    compared(seeds=[1])
    for file in tmp_path.glob("work/runs/*/*/*/checkpoint_best.pt"):
        file.unlink()
    _, printed = compared(seeds=[1], evaluate={"beam": 4}, fails=True)
    assert "checkpoint_best.pt is missing: remove its folder to train again" in printed


def test_a_run_that_fails_does_not_end_the_others_and_is_told(compared):
    table, printed = compared(variants={"bad": {"behave": "fail"}, "plain": None}, fails=True)
    assert table["missing"] == [f"bad, seed {seed}" for seed in (1, 2, 3)]
    assert len(table["rows"]["plain"]["seeds"]) == 3
    assert (
        len(re.findall(r"exit status 1\); its whole log: .*: RuntimeError: out of memory$", printed, re.M))
        == 3
    )
    assert printed.strip().endswith("3 runs failed, as said above; the report lacks them")


def test_other_lines_than_the_references_are_refused(compared, tmp_path, grid):
    other = tmp_path / "other.de"
    other.write_text("one line\nanother\n")
    grid["data"]["d"]["reference"] = f"{other}"
    _, printed = compared(fails=True)
    assert "has 2 lines, the test set of" in printed


@pytest.mark.parametrize("flag", ["--processes=0", "--threads=0", "--samples=-1"])
def test_numbers_out_of_range_are_refused(grid, tmp_path, flag):
    with pytest.raises(UserError, match="valid is a whole number of at least"):
        compare.main([str(written(grid, tmp_path)), flag])


@pytest.mark.parametrize("flag", ["--output", "--work-dir"])
def test_a_report_that_could_not_be_written_is_refused_before_the_runs(grid, tmp_path, flag):
    with pytest.raises(UserError, match=f"{flag} .* is a file, and no folder"):
        compare.main([str(written(grid, tmp_path)), flag, f"{__file__}/below"])


def test_each_gpu_has_its_processes(monkeypatch):
    parser = compare._parser()
    args = parser.parse_args(["g", "--gpus", "0", "3", "--processes", "2"])
    places = compare._places(args, compare._gpus(args, [{}]))
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places] == ["0", "3", "0", "3"]
    args = parser.parse_args(["g", "--threads", "1"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in compare._places(args, compare._gpus(args, [{}]))] == [
        "0",
        "1",
    ]
    places = compare._places(args, compare._gpus(args, [{"cpu": True}]))
    assert len(places) == len(os.sched_getaffinity(0))
    assert {place["OMP_NUM_THREADS"] for place in places} == {"1"}


def test_gpus_are_counted_among_those_that_may_be_used(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-5f")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    parser = compare._parser()
    for flags, names in (([], ["2", "GPU-5f"]), (["--gpus", "1"], ["GPU-5f"])):
        args = parser.parse_args(["g", *flags])
        places = compare._places(args, compare._gpus(args, [{}]))
        assert [place["CUDA_VISIBLE_DEVICES"] for place in places] == names
    for gpu, message in (
        (2, "--gpus 2: CUDA_VISIBLE_DEVICES is 2, GPU-5f"),
        (-1, "--gpus -1: valid is 0 or more"),
    ):
        with pytest.raises(UserError, match=message):
            compare._places(parser.parse_args(["g", "--gpus", str(gpu)]), [gpu])


def test_a_run_is_named_after_all_that_shapes_it(grid, tmp_path):
    read = read_grid(written(grid, tmp_path))
    experiment = Experiment(read, tmp_path, "skipln_fairseq")
    folder = experiment.cell(read.data[0], "plain", 1).training.folder
    others = [
        experiment.cell(read.data[0], "plain", 2).training.folder,
        experiment.cell(read.data[0], "good", 1).training.folder,
    ]
    (tmp_path / "data" / "dict.en.txt").write_text("b 1\n")
    changed = read_grid(written(grid, tmp_path))
    others.append(
        Experiment(changed, tmp_path, "skipln_fairseq").cell(changed.data[0], "plain", 1).training.folder
    )
    assert len({folder, *others}) == 4


# --- images ------------------------------------------------------------------------------------
