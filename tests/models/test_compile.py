"""``torch.compile`` and ``torch.export`` of training's stacks: one graph, with the kernels in it."""

import pytest
import torch
from torch import nn

from tests.support.build import batch, build

RMS = "--skip-norm rms"
FLAGS = {
    "plain": "--skip-type plain",
    "plain, RMSNorm": f"--skip-type plain {RMS}",
    "recursive": "--skip-order 2",
    "recursive, RMSNorm": f"--skip-order 2 {RMS}",
    "Pre-LN, LayerScale": "--skip-type layerscale --encoder-normalize-before --decoder-normalize-before",
}


@pytest.fixture(autouse=True)
def no_earlier_graphs():
    """torch compiles a function only so often anew."""
    torch._dynamo.reset()


class Whole(nn.Module):
    """A model's logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, source, lengths, target):
        encoded = self.model.encoder(source, lengths)
        return self.model.decoder(target, encoder_out=encoded)[0]


def whole(name, dropout):
    layers = ("--encoder-layers", "2", "--decoder-layers", "2", "--dropout", dropout)
    return Whole(build("transformer_rskip", *FLAGS[name].split(), *layers)).train()


@pytest.mark.parametrize(
    ("name", "backend"), [*((name, "eager") for name in FLAGS), ("recursive", "aot_eager")]
)
@pytest.mark.parametrize("padded", [True, False])
def test_models_compile_to_one_graph_and_learn_as_they_do_by_themselves(name, backend, padded):
    made = whole(name, "0.3")
    given = batch()
    if not padded:
        given = tuple(one[1:2] for one in given)
        assert not any(one.eq(1).any() for one in (given[0], given[2]))
    found = []
    for form in (made, torch.compile(made, fullgraph=True, backend=backend)):
        torch.manual_seed(2)
        made.zero_grad()
        out = form(*given)
        out.square().sum().backward()
        found.append([out.detach(), *(p.grad.clone() for p in made.parameters() if p.grad is not None)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["recursive", "plain, RMSNorm"])
def test_models_are_exported_with_the_kernels_in_them(name):
    made = whole(name, "0")
    program = torch.export.export(made, batch(), strict=False)
    kernels = [node for node in program.graph.nodes if node.target is torch.ops.skipln.leave.default]
    assert len(kernels) == 10  # sub-layers
    torch.testing.assert_close(program.module()(*batch()), made(*batch()))


@torch.no_grad()
@pytest.mark.parametrize("flags", [FLAGS["recursive"], "--skip-type plain --skip-norm batch"])
def test_models_that_are_ready_to_decode_are_compiled_and_exported(flags):
    """As ``from_pretrained`` gives them, whether their layers are known to the kernels of decoding or not."""
    model = build("transformer_rskip", *flags.split()).eval()
    model.make_generation_fast_()
    made, given = Whole(model), batch()
    program = torch.export.export(made, given, strict=False)
    others = tuple(one.flip(0) for one in given)
    for form in (program.module(), torch.compile(made, fullgraph=True, backend="eager")):
        torch.testing.assert_close(form(*others), made(*others), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_models_compile_with_inductor():
    made = whole("recursive", "0")
    torch.testing.assert_close(torch.compile(made, fullgraph=True)(*batch()), made(*batch()))
