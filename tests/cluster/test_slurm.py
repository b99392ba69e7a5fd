"""Trainings under Slurm: real daemons on one machine, two nodes, CPUs.

    pytest -m slow tests/cluster/test_slurm.py

What a node's cgroups and GPUs would add is not seen here.
"""

import re
import shutil

import pytest

from tests.recipes.test_train import TINY
from tests.support.commands import REPOSITORY, TRAIN, USER_DIR, Finished, run
from tests.support.recipe_files import prepare_slice
from tests.support.slurm import cluster, missing, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=f"{missing()}")]

NO_DROPOUT = ["--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0"]
TWO_NODES = ["--nodes", 2, "--ntasks-per-node", 1]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("slurm")) as here:
        yield here


def training(data, folder, *more):
    return ["fairseq-train", data, *TRAIN, *NO_DROPOUT, "--user-dir", USER_DIR, "--save-dir", folder, *more]


@pytest.mark.parametrize("tasks", [TWO_NODES, ["--nodes", 2, "--ntasks", 4]], ids=["1 a node", "2 a node"])
def test_srun_of_fairseq_train_equals_one_process_with_update_freq(tasks, slurm, data, tmp_path):
    """Summed in another order: equal to the printed digits, which are five."""
    count = 2 if tasks == TWO_NODES else 4
    alone = run(*training(data, tmp_path / "alone", "--update-freq", count), user_dir=None)
    line = training(data, tmp_path / "together", "--distributed-port", 20001)
    together = Finished(0, slurm.run("srun", *tasks, *line))
    assert together.output.count("training on") == 1  # only the first worker speaks
    assert together.losses() == alone.losses()
    assert len(together.losses()) == 12 // count


def test_tasks_without_a_port_end_in_one_line_each(slurm, data, tmp_path):
    said = slurm.run("srun", *TWO_NODES, *training(data, tmp_path / "run"), check=False)
    assert said.count("skipln_fairseq: error: srun started 2 tasks: give --distributed-port PORT") == 2
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


SCRIPT = REPOSITORY / "examples" / "wmt14-en-de" / "slurm.sh"
JOB = ["--nodes", 2, "--gpus-per-node", 1, "--cpus-per-task", 1]
UPDATES = 120
SMALL = {
    **TINY,
    "lr": 0.0003,
    "dropout": 0,
    "attention-dropout": 0,
    "activation-dropout": 0,
    "clip-norm": 0.1,
    "max-epoch": 999,
    "max-update": UPDATES,
    "disable-validation": True,
    "no-epoch-checkpoints": True,
    "keep-last-epochs": -1,
}
ENDED = re.compile(r"error: ended by SIGUSR1 after (\d+) updates, which are saved")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A folder with prepared data and a small recipe of the name that the script asks for."""
    folder = tmp_path_factory.mktemp("recipe")
    changes = {"train": SMALL, "average": 0, "tokens-per-update": 800}
    file, _ = prepare_slice("wmt14-en-de", folder=folder, **changes)
    shutil.copy(file, folder / "wmt14-en-de")
    return folder


def submit(slurm, recipe, name, *options, more=()):
    """The recipe's script on two nodes; gives the job and the log of the first node."""
    work = recipe / name
    work.mkdir()
    (work / "binary").symlink_to((recipe / "work" / "binary").resolve())
    line = [SCRIPT, "rskip", "--cpu", "--work-dir", work, *more]
    job = slurm.submit(*JOB, *options, "--output", work / "job.log", *line, cwd=recipe)
    return job, work / "rskip-1" / "train-node1.log"


def losses(log):
    return Finished(0, log.read_text(errors="replace") if log.exists() else "").losses()


@pytest.fixture(scope="module")
def uninterrupted(slurm, recipe):
    """The losses of a job that nothing disturbs."""
    job, log = submit(slurm, recipe, "uninterrupted")
    ended = slurm.wait(job, "COMPLETED", "FAILED")
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "0")
    return losses(log)


def test_the_recipes_script_trains_on_two_nodes_as_one_process_does(slurm, recipe, uninterrupted):
    """The same batches, summed in another order; float32 drifts apart slowly."""
    line = [recipe / "wmt14-en-de", "--work-dir", recipe / "work", "--cpu"]
    slurm.run("python", "-m", "skipln_fairseq.recipes", "train", *line)
    alone = losses(recipe / "work" / "rskip-1" / "train.log")
    assert len(uninterrupted) == len(alone) == UPDATES
    for (_, loss), (_, expected) in zip(uninterrupted, alone, strict=True):
        assert float(loss) == pytest.approx(float(expected), abs=0.01)


def test_a_job_that_must_make_way_saves_and_goes_on_where_it_was(slurm, recipe, uninterrupted):
    job, log = submit(slurm, recipe, "preempted")
    wait_for(lambda: len(losses(log)) > 5, "some updates")
    urgent = slurm.submit(
        "--partition", "high", "--nodes", 2, "--exclusive", "--output", "/dev/null", "--wrap", "sleep 2"
    )
    slurm.wait(urgent, "COMPLETED")
    ended = slurm.wait(job, "COMPLETED", "FAILED")
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1")
    (saved,) = set(ENDED.findall(log.read_text()))
    assert 5 < int(saved) < UPDATES
    assert losses(log) == uninterrupted  # none twice, none left out


def test_a_job_saves_before_its_time_limit_and_goes_on_in_another_turn(slurm, recipe, uninterrupted):
    """Slurm counts in minutes, and looks at the clock twice in one."""
    limit = ["--time", 1, "--signal", "B:USR1@10"]
    job, log = submit(slurm, recipe, "limited", *limit, more=["--max-update", 99999])
    wait_for(lambda: slurm.state(job).get("Restarts") == "1", "the second turn", seconds=120)
    wait_for(
        lambda: len(losses(log)) >= UPDATES and ENDED.search(log.read_text()), "enough updates", seconds=200
    )
    slurm.run("scancel", job)
    assert losses(log)[:UPDATES] == uninterrupted


def test_a_training_that_fails_is_not_begun_again(slurm, recipe):
    job, log = submit(slurm, recipe, "failing", more=["--lr-scheduler", "none-such"])
    ended = slurm.wait(job, "COMPLETED", "FAILED")
    assert (ended["JobState"], ended["Restarts"]) == ("FAILED", "0")
    assert not losses(log)
