"""What the README and the pages say is run, and was measured."""

import csv
import json
import re
import shlex
import statistics
import subprocess
from collections import defaultdict

import pytest

from skipln_fairseq.bench.render import markdown
from skipln_fairseq.compare.report import write_report
from skipln_fairseq.models.presets import MODELS
from tests.support.commands import REPOSITORY, USER_DIR, run

DOCS = REPOSITORY / "docs"


def page(name: str) -> str:
    """A page of docs/ as it is written."""
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[list[str]]:
    """The lines of each shell block."""
    return [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


TWO_COMMANDS = blocks(page("install"))[0]
(OWN_TRAINING,) = (block for block in blocks(page("own-data")) if block[0].startswith("fairseq-preprocess"))
IMAGES = blocks(page("images"))[0]
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


def test_the_two_commands_are_targets_of_the_makefile():
    assert TWO_COMMANDS == ["make demo", "make test"]
    for command in TWO_COMMANDS:
        subprocess.run([*command.split(), "--dry-run"], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)


def test_the_first_own_training(texts, tmp_path):
    """Its five lines as they stand, but for the place of the files and the length of the training."""
    (tmp_path / "text").symlink_to(texts)

    def here(word):
        own = word.split("/")[0] in ("text", "data", "checkpoints")
        return str(tmp_path / word) if own else str(USER_DIR) if word == "skipln_fairseq" else word

    output = {}
    for line in OWN_TRAINING:
        line = line.replace("--max-update 3600", "--max-epoch 2").replace("updates 600", "updates 1")
        line, _, stdin = line.partition(" < ")
        program, *words = (here(word) for word in shlex.split(line))
        text = (tmp_path / stdin).read_bytes() if stdin else b""
        if program == "python":
            program = words.pop(0)
        output[program] = run(program, *words, stdin=text, user_dir=None, env=NO_GPU).output
    assert "BLEU" in output["fairseq-generate"]
    assert re.findall(r"^H-\d+\t", output["fairseq-interactive"], re.MULTILINE)
    assert (tmp_path / "checkpoints" / "average.pt").exists()
    assert len(OWN_TRAINING) == 5


def test_the_first_training_on_images(tmp_path):
    """Both lines as they stand, but for the place of the checkpoints and the length of the training."""
    output = []
    for line in IMAGES:
        line = line.replace("--max-epoch 20", "--max-update 2").replace("checkpoints", f"{tmp_path}")
        program, *words = shlex.split(line.replace("skipln_fairseq", str(USER_DIR)))
        output.append(run(program, *words, user_dir=None, env=NO_GPU).output)
    trained, validated = output
    assert "num_updates: 2" in trained
    assert re.search(r"top1 \d", validated)


def test_every_architecture_is_named():
    architectures = page("own-data")
    for arch in (arch for presets in MODELS.values() for arch in presets):
        short = arch.removeprefix("transformer_rskip_").removeprefix("transformer_lm_rskip_")
        assert f"`{short}`" in architectures, arch


PERFORMANCE = REPOSITORY / "examples" / "performance"
REPORTS = {report.stem: json.loads(report.read_text()) for report in sorted(PERFORMANCE.glob("*.json"))}


def table(name):
    return [line for line in markdown(REPORTS[name]).splitlines() if line.startswith("|")]


COST = REPOSITORY / "docs" / "family-cost.json"


@pytest.mark.skipif(not COST.exists(), reason="measured on a quiet machine")
def test_what_the_family_costs_is_told():
    report = json.loads(COST.read_text(encoding="utf-8"))
    assert report["done"] == len(report["plan"])
    assert markdown(report).strip() in COST.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REPORTS)
def test_what_was_measured_is_told(name):
    text = (PERFORMANCE / "README.md").read_text(encoding="utf-8")
    assert "\n".join(table(name)) in text
    assert REPORTS[name]["command"] in text
    assert "/" not in REPORTS[name]["command"].replace("bench/", "")


def test_every_speed_on_the_page_was_measured():
    measured = {line for name in REPORTS for line in table(name)}
    told = re.findall(r"^\| (?:tiny|iwslt|wmt|batch \d+,).*$", page("speed"), re.MULTILINE)
    assert len(told) > 5
    assert set(told) <= measured


RESULTS = "".join(page(name) for name in ("results", "results-long", "results-short", "results-images"))
SUB_LAYERS = {"self_attn": "self-attention", "cross_attn": "attention to the encoder", "ffn": "feed-forward"}
EVIDENCE = sorted((REPOSITORY / "examples" / "evidence").glob("*/results.json"))


@pytest.mark.parametrize("results", EVIDENCE, ids=lambda file: file.parent.name)
def test_the_evidence_told_is_the_evidence_found(results, tmp_path):
    """The report is what the results make and quotes no corpus; the page has its tables, gaps and signatures."""
    summary = json.loads(results.read_text(encoding="utf-8"))
    assert not any(table["samples"] for table in summary["data"])
    write_report(summary, tmp_path)
    report = (results.parent / "report.md").read_text(encoding="utf-8")
    assert report == (tmp_path / "report.md").read_text(encoding="utf-8")
    assert (results.parent / "commands.sh").read_text() == (tmp_path / "commands.sh").read_text()
    tables = re.findall(r"^\| variant \| (?:BLEU|top-1).*\n(?:\|.*\n)+", report, re.MULTILINE)
    assert len(tables) == len(summary["data"])
    told = [*tables, *re.findall(r"^\*\*Missing:\*\* .*$", report, re.MULTILINE)]
    told += [signature for table in summary["data"] for signature in table["signatures"]]
    assert all(each in RESULTS for each in told)


def test_the_transfer_told_is_the_transfer_found():
    told = re.findall(r"^\| (?:PGD|MI|SGM).*$", RESULTS, re.MULTILINE)
    files = sorted((REPOSITORY / "examples" / "evidence" / "cifar10-transfer").glob("*/transfer.md"))
    reports = "".join(file.read_text(encoding="utf-8") for file in files)
    assert told == re.findall(r"^\| (?:PGD|MI|SGM).*$", reports, re.MULTILINE)
    assert len(told) == 8


def test_the_scale_told_is_the_scale_found():
    found = defaultdict(lambda: defaultdict(list))
    with (REPOSITORY / "examples" / "evidence" / "multi30k-recipe" / "probe.csv").open() as file:
        for row in csv.DictReader(file):
            place = f"{row['side']} {int(row['layer']) + 1}, {SUB_LAYERS[row['sub_layer']]}"
            for ratio in ("coefficient_ratio", "term_ratio"):
                found[place][ratio, row["variant"]].append(float(row[ratio]))
    rows = []
    for place, of in found.items():
        row = [place]
        for ratio, model in (
            ("coefficient_ratio", "rskip"),
            ("term_ratio", "rskip"),
            ("term_ratio", "post-ln"),
        ):
            before = statistics.median(of[ratio, f"{model}-seed-1, untrained"])
            after = [statistics.median(of[ratio, f"{model}-seed-{seed}"]) for seed in (1, 2, 3)]
            row += [f"{before:.1f}", f"{min(after):.1f} to {max(after):.1f}"]
        rows.append(f"| {' | '.join(row)} |")
    assert re.findall(r"^\| (?:en|de)coder \d.*$", RESULTS, re.MULTILINE) == rows
    assert len(rows) == 10


def test_the_losses_by_batch_statistics_are_those_found():
    found = defaultdict(list)
    with (REPOSITORY / "examples" / "evidence" / "batch-statistics" / "loss.csv").open() as file:
        for row in csv.DictReader(file):
            found[row["statistics"], row["model"].partition(",")[0]].append(row["validation loss"])
    rows = re.findall(r"^\| (?:the running|means over an|of each validation).*$", RESULTS, re.MULTILINE)
    assert [row.split(" | ", 1)[1] for row in rows] == [
        " | ".join(", ".join(found[kind, variant]) for variant in ("xSkip+BN 2", "rSkip+BN 2")) + " |"
        for kind in ("stored", "epoch", "batch")
    ]


def test_every_evidence_on_the_page_was_found():
    rows = {row for results in EVIDENCE for row in (results.parent / "report.md").read_text().splitlines()}
    told = re.findall(
        r"^\| .* \| (?:no significant difference|better|worse|missing).*$", RESULTS, re.MULTILINE
    )
    assert set(told) <= rows
