"""A comparison as a job array under Slurm; what else is tried there, and how: test_slurm.py."""

import json
import re

import pytest
import yaml

from tests.support.commands import REPOSITORY, Finished
from tests.support.slurm import cluster, missing, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=f"{missing()}")]

SCRIPT = REPOSITORY / "examples" / "compare-slurm.sh"
UPDATES = 12 * 20
TRAIN = {
    "arch": "transformer_rskip_tiny",
    "cpu": True,
    "optimizer": "adam",
    "lr": 0.002,
    "batch-size": 16,
    "max-update": UPDATES,
    "keep-last-epochs": 1,
    "num-workers": 0,
    "log-interval": 1,
}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("slurm")) as here:
        yield here


@pytest.fixture
def grid(texts, data, tmp_path):
    test = {"source": f"{texts / 'test.en'}", "reference": f"{texts / 'test.de'}"}
    content = {
        "title": "Slurm",
        "baseline": "plain",
        "seeds": [1, 2],
        "data": {"d": {"path": f"{data}", **test}},
        "variants": {"plain": {"skip-type": "plain"}, "rskip": {"skip-type": "recursive"}},
        "train": TRAIN,
        "evaluate": {"beam": 1, "batch-size": 16, "cpu": True},
    }
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


class Array:
    """The jobs of a grid's runs."""

    def __init__(self, slurm, grid):
        self.slurm, self.folder = slurm, grid.parent
        self.words = [grid, "--work-dir", self.folder / "work"]

    def compare(self, *flags):
        return self.slurm.run("python", "-m", "skipln_fairseq.compare", *self.words, *flags)

    def submit(self, numbers, gpus=1):
        options = ["--array", numbers, "--gpus", gpus, "--cpus-per-task", 1]
        return self.slurm.submit(*options, "--output", self.folder / "job-%a.log", SCRIPT, *self.words)

    def state(self, job):
        return self.slurm.state(job)["JobState"]

    def said(self, number):
        return (self.folder / f"job-{number}.log").read_text(errors="replace")

    def log(self, variant, seed):
        """What a run's trainings have printed; empty before the first."""
        logs = list(self.folder.glob(f"work/runs/d/{variant}/seed-{seed}-*/train.log"))
        return Finished(0, logs[0].read_text(errors="replace") if logs else "")

    def wait_for_updates(self, variant, seed, count):
        wait_for(lambda: len(self.log(variant, seed).losses()) >= count, f"{count} updates", seconds=200)

    def check_went_on(self, variant, seed):
        """All updates were made; one that was made twice gave the same, and only those after a save were."""
        made = self.log(variant, seed).losses()
        assert [int(update) for update, _ in dict.fromkeys(made)] == list(range(1, UPDATES + 1))
        starts = re.findall(r"Loaded checkpoint .* @ (\d+) updates", self.log(variant, seed).output)
        assert len(starts) == 1
        assert 0 < int(starts[0]) < UPDATES
        return len(made) - UPDATES


def test_each_run_is_a_job_which_goes_on_after_what_happens_to_jobs(slurm, grid):
    array = Array(slurm, grid)
    listed = array.compare("--list")
    assert re.findall(r"^\d\td / .*", listed, re.MULTILINE) == [
        f"{n}\td / {variant} / seed {seed}"
        for n, (seed, variant) in enumerate((s, v) for s in (1, 2) for v in ("plain", "rskip"))
    ]
    twins = [f"{array.submit('0', gpus=0)}_0"]  # by mistake; there are two GPUs
    job = array.submit("0-3%2")
    twins.append(f"{job}_0")

    # of two that do the same work, one ends
    wait_for(lambda: "FAILED" in map(array.state, twins), "one of the twins to end")
    (first,) = (twin for twin in twins if array.state(twin) == "RUNNING")
    assert "another run of the comparison, or the end of an interrupted one, is at work" in array.said(0)
    # one is killed, as by a node that fails, and put back into the queue
    array.wait_for_updates("plain", 1, 30)
    slurm.run("scontrol", "requeue", first)
    # one is told that its time is over
    array.wait_for_updates("rskip", 1, 30)
    number = slurm.state(f"{job}_1")["JobId"]
    # once only: scancel repeats a request for seconds that came while the array was being changed
    slurm.run("timeout", 3, "scancel", "--signal", "USR1", "--batch", number, check=False)
    # one is killed for good, and submitted again
    array.wait_for_updates("rskip", 2, 30)
    slurm.run("scancel", f"{job}_3")
    slurm.wait(f"{job}_3", "CANCELLED")
    again = array.submit("3")

    jobs = [first, f"{job}_1", f"{job}_2", f"{again}_3"]
    ends = [slurm.wait(each, "COMPLETED", "FAILED") for each in jobs]
    assert [(end["JobState"], end["Restarts"]) for end in ends] == [("COMPLETED", n) for n in "1100"]
    assert 0 <= array.check_went_on("plain", 1) < 12 + 2  # an epoch is saved, of 12 updates
    assert array.check_went_on("rskip", 1) == 0
    assert 0 <= array.check_went_on("rskip", 2) < 12 + 2
    assert len(array.log("plain", 2).losses()) == UPDATES

    array.compare("--report-only")
    results = json.loads((array.folder / "work" / "grid" / "results.json").read_text())
    assert results["data"][0]["missing"] == []
