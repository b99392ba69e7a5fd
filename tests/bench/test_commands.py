"""The bench's command line."""

import json
import os
import time

import pytest
import torch

from skipln_fairseq.bench import lengths
from skipln_fairseq.bench.__main__ import main
from skipln_fairseq.bench.leave import FORMS
from skipln_fairseq.bench.render import KINDS, LAYOUTS, markdown
from skipln_fairseq.bench.report import summarise
from skipln_fairseq.common.errors import UserError
from tests.support.benches import MINIATURE, SMALL
from tests.support.commands import preprocess, run


def bench(*flags, succeeds=True):
    return run("-m", "skipln_fairseq.bench", *flags, succeeds=succeeds)


def test_a_profile_is_tabled(tmp_path):
    flags = ("--shapes", "tiny", "--contestants", "stock", "plain+fused", *SMALL)
    bench("profile", *flags, "--output", tmp_path / "profile.json")
    report = json.loads((tmp_path / "profile.json").read_text())
    stock, ours = report["heats"][0]["runs"]
    assert (
        min(stock["milliseconds"][kind] for kind in ("matrix products", "dropout", "loss", "skips and norms"))
        > 0
    )
    assert ours["milliseconds"]["skips and norms"] > 0
    header, _, *rows = markdown(report).splitlines()[:4]
    assert [line.count("|") for line in (header, *rows)] == [len(KINDS) + 5] * 3


def test_the_lengths_of_binarised_data_are_its_sentences(texts, tmp_path, capsys):
    preprocess(texts, tmp_path)
    sides = ((texts / f"train.{side}").read_text("utf-8").splitlines() for side in ("en", "de"))
    words = [[len(line.split()) + 1 for line in lines] for lines in sides]
    found = lengths.of_data(tmp_path)
    assert found.T.tolist() == words
    main(["histogram", str(tmp_path)])
    assert sorted(lengths.pairs(capsys.readouterr().out).tolist()) == sorted(found.tolist())


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A miniature run of two contestants, started twice, what it printed, and its report."""
    file = tmp_path_factory.mktemp("bench") / "new folder" / "train.json"
    flags = ("--shapes", "tiny", "--contestants", "stock", "order-2", "--output", file)
    return bench(*flags, *MINIATURE, "--starts", "2").output, json.loads(file.read_text()), file


def test_a_report_says_what_was_measured_where(report):
    printed, found, _ = report
    first = printed.splitlines()[0]
    for part in ("python -m skipln_fairseq.bench --shapes tiny", "seed 1", "1 thread(s)", torch.__version__):
        assert part in first
    assert found["where"]["torch"] == torch.__version__
    counts = {"threads": 1, "rounds": 1, "starts": 2, "warmup": 1, "batches": 2, "max_tokens": 128, "seed": 1}
    assert found["settings"] == {"device": "cpu", "dtype": ["fp32"], **counts}
    (heat,) = found["heats"]
    stock, ours = heat["runs"]
    for name, one in zip(("stock", "order-2"), heat["runs"], strict=True):
        assert one["contestant"] == name
        assert name in printed
        assert len(one["seconds"]) == len(one["cpu_seconds"]) == 2
        assert min(*one["seconds"], *one["cpu_seconds"]) > 0
        assert (one["tokens"], one["sentences"]) == (stock["tokens"], stock["sentences"])
        assert 0 < one["tokens"] <= 2 * 128
    assert ours["parameters"] == stock["parameters"] + 5 * 2 * 16
    # float32 parameters and Adam's two moments, each side's table of positions, and a few counters
    for one in heat["runs"]:
        assert 0 <= one["bytes"]["state"] - 4 * (3 * one["parameters"] + 2 * 1026 * 16) < 2000
        assert one["bytes"]["step"] > 4 * one["parameters"]


def test_summaries_follow_from_the_raw_numbers(report):
    runs = report[1]["heats"][0]["runs"]
    again = json.loads(json.dumps(summarise([{**run, "summary": None} for run in runs])))
    assert again == runs
    ratios = [a / b for a, b in zip(runs[1]["seconds"], runs[0]["seconds"], strict=True)]
    summary = runs[1]["summary"]
    assert summary["time_ratio"] == pytest.approx([sum(ratios) / 2, min(ratios), max(ratios)])
    assert summary["tokens_per_second"] == pytest.approx(runs[1]["tokens"] / (sum(runs[1]["seconds"]) / 2))


def test_a_table_has_a_row_of_full_cells_for_every_contestant(report, capsys):
    _, found, file = report
    lines = markdown(found).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:4]]
    assert cells[0] == ["shape", *LAYOUTS["training"].headings]
    assert [row[:2] for row in cells[2:]] == [["tiny", name] for name in ("stock", "order-2")]
    assert all(len(row) == len(cells[0]) and all(row[:-1]) for row in cells)
    stock = found["heats"][0]["runs"][0]
    assert cells[2][2].startswith(f"{stock['summary']['seconds'][0] * 1000 / 2:.3g}"[:2])
    main(["table", str(file), "--markdown"])
    assert capsys.readouterr().out == markdown(found)
    main(["table", str(file)])
    assert "order-2" in capsys.readouterr().out


def test_what_grows_is_tabled_and_drawn(tmp_path):
    """Two workers have two batches where one has one, and every parameter once each."""
    flags = ("--contestants", "stock", "--values", "1", "2", "--output", tmp_path / "grow-AXIS.json")
    bench("grow", "processes", *flags, *MINIATURE)
    file = tmp_path / "grow-processes.json"
    report = json.loads(file.read_text())
    assert [heat["value"] for heat in report["heats"]] == [1, 2]
    alone, together = (heat["runs"][0] for heat in report["heats"])
    assert alone["parameters"] == together["parameters"]
    assert together["bytes"]["state"] == 2 * alone["bytes"]["state"]
    assert 1.5 * alone["tokens"] < together["tokens"] < 3 * alone["tokens"]
    assert "tiny, processes 2" in markdown(report)

    main(["draw", str(file)])
    picture = file.with_suffix(".svg").read_bytes()
    for word in (b"processes", b"stock", b"real target tokens a second"):
        assert word in picture
    main(["draw", str(file), "--output", str(tmp_path / "again.svg")])
    assert (tmp_path / "again.svg").read_bytes() == picture


def test_the_leave_step_is_tabled_and_drawn(tmp_path):
    file = tmp_path / "leave.json"
    small = ("--orders", "1", "2", "--rounds", "2", "--rows", "32", "--dim", "16", "--repeats", "1")
    norms = ("--norms", "layer", "rms")
    printed = bench("leave", "--dtype", "fp32", "bf16", *norms, *small, "--output", file).output
    report = json.loads(file.read_text())
    places = [(f"32 × 16 {dtype}", order) for dtype in ("fp32", "bf16") for order in (1, 2)]
    assert [(heat["shape"], heat["value"]) for heat in report["heats"]] == places
    contestants = [*FORMS, *(f"{form} rms" for form in FORMS)]
    assert all([run["contestant"] for run in heat["runs"]] == contestants for heat in report["heats"])
    assert all(len(run["seconds"]["backward"]) == 2 for heat in report["heats"] for run in heat["runs"])
    assert "32 × 16 bf16, order 2" in printed
    assert markdown(report).count("| modules |") == len(places)
    main(["draw", str(file)])
    assert b"fused bf16" in file.with_suffix(".svg").read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shapes", "huge"], "--shapes huge: valid are tiny, iwslt, wmt"),
        (["--contestants", "stok"], "--contestants stok: valid are stock, null, plain, order-K"),
        (["--contestants", "order-K"], "--contestants order-K: valid are"),
        (["--contestants", "stock", "stock"], "--contestants stock: two contestants have this name"),
        (["--contestants", "stock+tf32"], "--contestants stock+tf32: valid are"),
        (["--rounds", "0"], "--rounds 0: valid is a whole number of at least 1"),
        (["--warmup", "-1"], "--warmup -1: valid is a whole number of at least 0"),
        (["--dtype", "fp8"], "--dtype fp8: valid are fp32, bf16, fp16"),
        (["--dtype", "fp16"], "--dtype fp16 needs --device cuda"),
        (["--device", "tpu"], "--device tpu: valid are cpu, cuda"),
        (["--data", "nowhere"], "--data nowhere: no binarised sentence pairs in this folder"),
        (["--output", "report.txt"], "--output report.txt: name a file that ends in .json"),
        (["--output", f"{__file__}/report.json"], f"--output {__file__} is a file, and no folder"),
        (["leave", "--orders", "0"], "--orders 0: valid is a whole number of at least 1"),
        (["leave", "--dropout", "1"], "--dropout 1.0: valid is a number from 0 to below 1"),
        (["leave", "--rows", "0"], "--rows 0: valid is a whole number of at least 1"),
        (["grow", "width"], "grow width: valid are order, depth, length, threads, processes"),
        (["grow", "length", "--values", "2000"], "--values 2000: no sentence of this length fits"),
        (["grow", "depth", "--values", "0"], "--values 0: valid is a whole number of at least 1"),
        (["grow", "threads", "--threads", "2"], "--threads has no meaning with grow threads"),
        (["grow", "length", "--data", "here"], "--data has no meaning with grow length"),
        (["profile", "--shapes", "tiny", "huge"], "--shapes huge: valid are tiny, iwslt, wmt"),
        (["table", "nowhere.json"], "nowhere.json: No such file or directory"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_runs(flags, message):
    with pytest.raises(UserError) as refused:
        main(flags)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(UserError, match="--device cuda: torch finds no GPU"):
        main(["--device", "cuda"])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"heats": []}', '{"kind": "x", "heats": []}'])
def test_a_file_that_is_no_report_is_named(tmp_path, text):
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(UserError, match=r"file\.json: not a report of this benchmark"):
        main(["table", str(tmp_path / "file.json")])


def test_a_report_in_which_nothing_grows_is_not_drawn(report):
    with pytest.raises(UserError, match="nothing grows in it"):
        main(["draw", str(report[2])])


@pytest.mark.parametrize(
    ("contestant", "message"),
    [
        ("broken: --arch nothing", "broken: --arch nothing is unknown"),
        (
            "broken: --arch transformer --encoder-attention-heads 3",
            "broken: AssertionError: embed_dim must be",
        ),
    ],
)
def test_a_failing_contestant_is_named_in_one_line(tmp_path, contestant, message):
    flags = ("--shapes", "tiny", "--contestants", contestant, "--output", tmp_path / "x.json")
    output = bench(*flags, *MINIATURE, succeeds=False).output
    assert output.splitlines()[-1].startswith(f"skipln_fairseq: error: {message}")
    assert "Traceback" not in output
    assert not (tmp_path / "x.json").exists()


TEAM = """
import os, tempfile
tempfile.tempdir = "{folder}"
import skipln_fairseq
from skipln_fairseq.bench import race
from skipln_fairseq.bench.contestants import contestants
from skipln_fairseq.bench.lengths import equal
from skipln_fairseq.bench.shapes import SHAPES
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models.family import declarations

heat = race.Heat(
    SHAPES["tiny"], ("--encoder-layers", "1", "--decoder-layers", "1"), equal(4, 64), 64, 1, 1, 1, 0, 1, 1, 1, "cpu"
)
teams = []
class Team(race.Team):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        teams.append(self)
    def ask(self, method, *arguments):
        print("pids", *(process.pid for team in teams for process in team.processes), flush=True)
        happen(self)
        return super().ask(method, *arguments)
race.Team = Team
def happen(team):
    {happen}
try:
    race.race(heat, contestants({names}, ["fp32"]))
except UserError as error:
    print("error", error)
print("alive", [process.is_alive() for team in teams for process in team.processes])
"""


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("names", "happen", "printed"),
    [
        (["stock"], "pass", ""),
        (
            ["stock", "plain"],
            "team.processes[0].kill()",
            ": its process ended, it was killed, as where memory runs out",
        ),
        (["stock"], "os.kill(os.getpid(), 9)", None),
    ],
)
def test_no_process_survives(tmp_path, names, happen, printed):
    """A comparison that ends well, whose contestant is killed, and that is killed itself."""
    killed = printed is None
    code = TEAM.replace("{happen}", happen).replace("{names}", repr(names)).replace("{folder}", str(tmp_path))
    lines = run("-c", code, succeeds=not killed).output.splitlines()
    pids = [int(pid) for pid in next(line for line in lines if line.startswith("pids")).split()[1:]]
    assert len(pids) == len(names)
    if not killed:
        assert lines[-1] == f"alive {[False] * len(names)}"
        assert [line for line in lines if line.startswith("error")] == [
            line for line in lines if printed and line.endswith(printed)
        ]
        assert any(line.startswith("error") for line in lines) == bool(printed)
    deadline = time.monotonic() + 30
    while not all(map(gone, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(gone, pids))
