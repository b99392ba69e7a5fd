"""What is too long is named, and what one line can say is said in one line."""

import re

import pytest
import torch

from tests.support.commands import TRAIN, run

LONG = "a " * 60
SHORT = ("--model-overrides", "{'max_source_positions': 50}")
LEAVE_OUT = "--skip-invalid-size-inputs-valid-test"


def one_line(finished):
    errors = [line for line in finished.output.splitlines() if "skipln_fairseq: error:" in line]
    assert len(errors) == 1, finished.output
    assert "Traceback" not in finished.output
    return errors[0].partition("error: ")[2]


def interactive(trained, data, *flags, text, **how):
    command = (
        "fairseq-interactive",
        data,
        "--path",
        trained.checkpoint,
        "--cpu",
        "--max-len-b=5",
        "--beam=2",
    )
    return run(*command, *flags, stdin=text.encode(), **how)


@pytest.mark.parametrize("buffer", [1, 2, 5])
def test_lines_that_are_left_out_are_announced_and_the_others_keep_their_numbers(buffer, trained, data):
    text = f"{LONG}\na b\n{LONG}\nc d\n"
    flags = (*SHORT, LEAVE_OUT, "--buffer-size", buffer)
    finished = interactive(trained, data, *flags, text=text)
    assert [line.split("\t")[0] for line in finished.lines("H")] == ["H-1", "H-3"]
    assert re.findall(r"(S-\d+) has 61 words.*left out", finished.output) == ["S-0", "S-2"]


def test_a_line_that_is_too_long_is_named(trained, data):
    finished = interactive(trained, data, *SHORT, text=f"a b\n{LONG}\n", succeeds=False)
    assert one_line(finished).startswith("S-1 has 61 words, and the model takes (50, 1024); --skip-invalid")


def test_when_every_sentence_is_too_long_it_is_said(trained, data, tmp_path):
    generate = ("fairseq-generate", data, "--path", trained.checkpoint, "--cpu", LEAVE_OUT)
    short = ("--model-overrides", "{'max_source_positions': 2}")
    refused = run(*generate, *short, succeeds=False)
    assert one_line(refused).startswith("no sentence is left: each of the 15 is longer than (2, 1024) words")
    train = (
        "fairseq-train",
        data,
        *TRAIN,
        LEAVE_OUT,
        "--max-source-positions=2",
        "--save-dir",
        tmp_path / "run",
    )
    assert "is longer than" in one_line(run(*train, succeeds=False))
    assert not list(tmp_path.glob("run/*.pt"))


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_another_number_of_layers_is_named(side, trained, data, tmp_path):
    generate = ("fairseq-generate", data, "--path", trained.checkpoint, "--cpu")
    refused = run(*generate, "--model-overrides", f"{{'{side}_layers': 3}}", succeeds=False)
    assert f"the checkpoint's {side} has 2 layers, and the model's 3: say --{side}-layers 2" in one_line(
        refused
    )
    for layers in (1, 3):
        train = ("fairseq-train", data, *TRAIN, f"--{side}-layers={layers}", "--save-dir", tmp_path)
        refused = run(*train, "--restore-file", trained.checkpoint, succeeds=False)
        assert f"{side} has 2 layers, and the model's {layers}" in one_line(refused)


def test_a_model_without_numbers_is_refused(trained, data, tmp_path):
    state = torch.load(trained.checkpoint, weights_only=True)
    state["model"]["encoder.layers.0.fc1.weight"][0] = torch.inf
    torch.save(state, tmp_path / "c.pt")
    refused = run("fairseq-generate", data, "--path", tmp_path / "c.pt", "--cpu", succeeds=False)
    assert "diverged" in one_line(refused)


def test_output_in_ascii_is_blamed_on_the_output(trained, data):
    run_with = f"""
import sys, io
for stream in (sys.stdout, sys.stderr): stream.reconfigure(encoding="ascii")
from fairseq_cli import generate
sys.argv = ["fairseq", {str(data)!r}, "--path", {str(trained.checkpoint)!r}, "--cpu", "--user-dir", "skipln_fairseq"]
generate.cli_main()
"""
    refused = run("-c", run_with, succeeds=False)
    assert "writes text as ascii, which cannot hold it; set PYTHONIOENCODING=utf-8" in one_line(refused)


def test_buckets_need_a_number_of_tokens(data, tmp_path):
    train = ("fairseq-train", data, *TRAIN, "--num-batch-buckets=4", "--save-dir", tmp_path)
    assert one_line(run(*train, succeeds=False)) == "--num-batch-buckets acts only beside --max-tokens"
