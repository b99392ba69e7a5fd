"""The kernels run in every way of training, not only in a model by itself.

A trainer, and what else gets hold of a model, puts things into its modules. The leave-step steps aside for what it does
not know, and then only the time tells.
"""

from collections import Counter

import pytest
import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.trainer import Trainer
from torch import nn

from skipln_fairseq.compat import bfloat16
from skipln_fairseq.nn.kernels.leave import cpu
from skipln_fairseq.probe.watch import sub_layers
from tests.support.build import batch, build, parse

WAYS = {
    "float32": (),
    "bfloat16": ("--bf16",),
    "bfloat16 alone": ("--bf16", "--memory-efficient-bf16"),
    "a moving average": ("--store-ema", "--ema-decay=0.99"),
    "recomputed activations": ("--checkpoint-activations",),
    "dropped sentences": ("--drop-path=0.1",),
    "quantisation noise": ("--quant-noise-pq=0.1",),
}
pytestmark = pytest.mark.skipif(not cpu.fits(torch.empty(1)), reason="no C compiler")


@pytest.mark.parametrize("flags", WAYS.values(), ids=WAYS)
def test_each_sub_layer_ends_in_the_kernel(flags, monkeypatch):
    monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda _: True)
    calls = Counter()

    def count(name, kernel):
        def counted(*args):
            calls[name] += 1
            return kernel(*args)

        monkeypatch.setattr(cpu, name, counted)

    count("forward", cpu.forward)
    count("backward", cpu.backward)
    cfg = convert_namespace_to_omegaconf(parse("transformer_rskip", "--cpu", "--lr-scheduler=fixed", *flags))
    trainer = Trainer(cfg, None, build("transformer_rskip", *flags), nn.Module())
    assert bool(trainer.ema) == ("--store-ema" in flags)
    model = trainer.model.train()
    model(*batch())[0].float().sum().backward()
    ends = len(sub_layers(model))
    assert ends == 10
    again = 2 if "--checkpoint-activations" in flags else 1
    assert calls == {"forward": again * ends, "backward": ends}
