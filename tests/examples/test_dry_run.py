"""examples/gpu/dry_run.py: an update on a GPU that is not there, and what the host would wait for."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.support.commands import REPOSITORY

COMPILER = os.environ.get("CXX", "g++")
pytestmark = pytest.mark.skipif(shutil.which(COMPILER) is None, reason="no C++ compiler")


def python(*arguments, succeeds=True):
    """In a process of its own: the device has to be there before torch is."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (done.returncode == 0) == succeeds, done.stdout + done.stderr[-3000:]
    return done.stdout


def counts(printed):
    """By type and member, how often the host waits and copies, and how many kernels are called."""
    found = {}
    for section in re.split(r"^(?=\w+:$)", printed, flags=re.MULTILINE):
        dtype = section.partition(":")[0]
        for waits, copies, kernels, name in re.findall(
            r"(\d+) waits +(\d+) copies +(\d+) kernels  (.*)", section
        ):
            found[dtype, name] = int(waits), int(copies), int(kernels)
    return found


PLANTED = """
from examples.gpu import pretend
pretend.load()
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from examples.gpu.watch import Watch
with FakeTensorMode(allow_non_fake_inputs=True), Watch() as watch, pretend.answers():
    x = torch.ones(3, device="cuda")
    for wait in (x.sum().item, x.any, lambda: bool(x.any()), x.cpu, lambda: x[x > 0], x.nonzero, lambda: x.tolist()):
        watch.clear()
        wait()
        print(watch.waits.total(), end=" ")
    watch.clear()
    bool(torch.ones(2).any()), torch.ones(2).sum().item(), x + torch.tensor(2.0)
    print(watch.waits.total(), watch.copies.total(), end=" ")
    torch.ones(3).cuda(), x.copy_(torch.ones(3)), x.double()
    print(watch.copies.total(), watch.doubles.total())
    try:
        x + torch.ones(3)
    except RuntimeError:
        print("refused")
"""


def test_what_waits_is_counted_and_what_does_not_go_together_is_refused():
    assert python("-c", PLANTED).split() == [*"1011113", *"00", *"21", "refused"]


@pytest.fixture(scope="module")
def printed():
    """A recursion in kernels, norms over the batch, a rule of several streams, and FAVOR+."""
    choices = ("recursive", "batch", "power", "hyper-dynamic", "favor")
    return python("-m", "examples.gpu.dry_run", "--dtype", "fp16", "bf16", "--only", *choices)


def test_a_training_has_the_types_of_a_gpus_and_no_wait_that_fairseqs_has_not(printed):
    found = counts(printed)
    assert len(found) == 2 * 6 - 1  # PowerNorm is refused with fp16
    assert "wrong" not in printed
    for (dtype, _), (waits, copies, _) in found.items():
        assert waits <= found[dtype, "stock"][0]
        assert copies <= found[dtype, "stock"][1]


def test_what_a_training_waits_for_is_told_line_by_line(printed):
    """fairseq's own: what is padded, the loss scale's overflow, the gradient's norm and what is logged."""
    half = printed.partition("bf16:")[0]
    for place in ("transformer_encoder.py", "dynamic_loss_scaler.py", "trainer.py", "logging/meters.py"):
        assert re.search(rf"_local_scalar_dense\.default at fairseq/.*{place}:\d+", half)


def test_the_kernels_are_called(printed):
    """In five sub-layers of two layers each, forward and backward."""
    found = {name: kernels for (dtype, name), (*_, kernels) in counts(printed).items() if dtype == "fp16"}
    assert [kernels for name, kernels in found.items() if "(recursive)" in name] == [2 * 5 * 2]
    assert found["stock"] == 0


def test_a_choice_that_no_member_has_is_refused():
    assert python("-m", "examples.gpu.dry_run", "--only", "recursive", "nosuch", succeeds=False) == ""


@pytest.mark.slow
def test_the_whole_family_in_every_type():
    printed = python("-m", "examples.gpu.dry_run")
    assert len(counts(printed)) > 3 * 50
