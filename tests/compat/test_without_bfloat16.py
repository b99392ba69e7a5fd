"""``--cpu --bf16`` on processors that do not multiply bfloat16: the model computes in float32."""

import pytest
import torch

from skipln_fairseq.compat import bfloat16
from skipln_fairseq.compat.bfloat16 import multiplies_bfloat16
from tests.compat.test_bfloat16 import checkpoint, train, trainer
from tests.compat.test_torchrun import NO_DROPOUT
from tests.support.commands import TRAIN, USER_DIR, run


@pytest.mark.parametrize("multiplies", [True, False])
def test_a_batch_has_the_models_type(multiplies, monkeypatch):
    monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda cpuinfo: multiplies)
    one = trainer("--bf16")
    batch, _ = one._prepare_sample({"image": torch.ones(2)})
    assert batch["image"].dtype == one.model.weight.dtype


@pytest.mark.parametrize(
    ("cpuinfo", "multiplies"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512bw\n", False),
        ("Features\t: fp asimd bf16\n", True),
        ("Features\t: fp asimd\n", False),
        ("nothing of the kind\n", True),
        (None, True),
    ],
)
def test_a_processor_that_does_not_multiply_bfloat16_is_known(cpuinfo, multiplies, tmp_path):
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert multiplies_bfloat16(tmp_path / "cpuinfo") is multiplies


WITHOUT = """
import sys
import skipln_fairseq
from skipln_fairseq.compat import bfloat16
bfloat16.multiplies_bfloat16 = lambda cpuinfo: False
from fairseq_cli.train import cli_main
sys.argv[:2] = ["fairseq-train"]
cli_main()
"""


def without(data, folder, *flags, updates):
    """Train on a processor that does not multiply bfloat16."""
    argv = (data, *TRAIN, *flags, f"--max-update={updates}", "--save-dir", folder)
    return run("-c", WITHOUT, *argv, "--user-dir", USER_DIR)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("--bf16", "--bf16: this processor does not multiply bfloat16 (AVX512_BF16"),
        ("--memory-efficient-bf16", "--memory-efficient-bf16: this processor does not multiply bfloat16"),
    ],
)
def test_a_processor_that_does_not_multiply_it_says_so(kind, said, data, tmp_path):
    """Then --bf16 computes in float32, from first weights that are rounded: its losses are float32's to four digits."""
    found = without(data, tmp_path / "half", kind, *NO_DROPOUT, updates=3)
    assert said in found.output
    single = train(data, tmp_path / "single", *NO_DROPOUT, updates=3)
    within = 2e-3 if kind == "--bf16" else 0.02
    for (_, expected), (_, loss) in zip(single.losses(), found.losses(), strict=True):
        assert float(loss) == pytest.approx(float(expected), abs=within)


def test_a_run_goes_on_where_bfloat16_is_multiplied_and_back(data, tmp_path):
    """What is the same in both: the float32 masters, and the optimizer's state."""
    whole = without(data, tmp_path / "whole", "--bf16", *NO_DROPOUT, updates=6)
    first = without(data, tmp_path / "moved", "--bf16", *NO_DROPOUT, updates=2)
    second = train(data, tmp_path / "moved", "--bf16", *NO_DROPOUT, updates=4)
    third = without(data, tmp_path / "moved", "--bf16", *NO_DROPOUT, updates=6)
    moved = first.losses() + second.losses() + third.losses()
    assert [number for number, _ in moved] == [number for number, _ in whole.losses()]
    for (_, expected), (_, found) in zip(whole.losses(), moved, strict=True):
        assert float(found) == pytest.approx(float(expected), abs=0.02)
    state = checkpoint(tmp_path / "moved")["last_optimizer_state"]
    assert {master.dtype for master in state["fp32_params"]} == {torch.float32}
