"""A block is pickled, copied, scripted, exported and compiled as torch's own modules are."""

import copy
import io
import pickle
import subprocess
import sys
from typing import Optional

import pytest
import torch
from torch import nn

from skipln_fairseq.nn import (
    ConnectionConfig,
    Residual,
    build_connection,
    fuse,
)
from tests.support.blocks import ALONE, DIM, Stack, Weighted, inputs, made, valid
from tests.support.commands import REPOSITORY


def one_of_each():
    """Each skip, each norm and each placement, with the first that goes with it."""
    seen: set[str] = set()
    for choices in sorted(valid(), key=lambda choices: choices[0] != "plain"):
        if not seen.issuperset(choices):
            seen.update(choices)
            yield choices


def saved(block):
    file = io.BytesIO()
    torch.save(block, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("skip", ALONE)
@torch.no_grad()
def test_every_valid_block_is_what_a_copy_of_it_is(skip):
    """Pickled, copied, and saved by torch, of the same class."""
    x, mask = inputs()
    for choices in valid():
        if choices[0] == skip:
            block = made(*choices)
            y = block(x, padding_mask=mask)
            assert block.make_end()(y).shape[:-1] == x.shape[:-1]
            for other in (pickle.loads(pickle.dumps(block)), copy.deepcopy(block), saved(block)):
                assert type(other.connection) is type(block.connection)
                torch.testing.assert_close(other(x, padding_mask=mask), y, rtol=0, atol=0)
                assert all(a is not b for a, b in zip(other.parameters(), block.parameters(), strict=True))


def test_a_block_is_unpickled_where_none_was_made():
    block, x = Residual(nn.Linear(DIM, DIM), DIM, skip="recursive", order=3), torch.ones(2, DIM)
    code = (
        "import pickle, sys, torch; sys.modules['fairseq'] = None; block = pickle.load(sys.stdin.buffer); "
        f"sys.stdout.buffer.write(pickle.dumps(block(torch.ones(2, {DIM})).tolist()))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=pickle.dumps(block), cwd=REPOSITORY, capture_output=True, check=True)
    torch.testing.assert_close(torch.tensor(pickle.loads(done.stdout)), block(x).detach())


def test_a_fused_connection_is_copied_as_one():
    connection = build_connection(DIM, ConnectionConfig())
    fuse(connection)
    assert type(copy.deepcopy(connection)) is type(connection)
    assert type(pickle.loads(pickle.dumps(connection))) is type(connection)


@pytest.mark.parametrize("choices", list(one_of_each()), ids="-".join)
def test_torchscript_has_the_same(choices):
    block, (x, mask) = made(*choices), inputs()
    scripted = torch.jit.script(block)
    torch.testing.assert_close(scripted(x, padding_mask=mask), block(x, padding_mask=mask))
    torch.testing.assert_close(scripted(x), block(x))


def test_torchscript_counts_what_f_reads():
    block, (x, _) = Residual(Weighted(), DIM), inputs()
    memory = torch.randn(DIM)
    torch.testing.assert_close(torch.jit.script(block)(x, memory), block(x, memory))

    class Greedy(nn.Module):
        def forward(self, x, a, b, c):
            return x

    with pytest.raises(TypeError, match="valid is an F of at most 3 tensors, not of 4"):
        torch.jit.script(Residual(Greedy(), DIM))


def test_torchscript_refuses_an_f_in_whose_place_the_mask_would_come():
    class Masked(nn.Module):
        def forward(self, x, mask: Optional[torch.Tensor] = None):
            return x

    with pytest.raises(TypeError, match="F need not be given mask: valid is"):
        torch.jit.script(Residual(Masked(), DIM))


def test_a_model_of_blocks_scripts():
    stack, (x, _) = Stack(made("plain", "layer", "pre"), made("recursive")), inputs()
    torch.testing.assert_close(torch.jit.script(stack)(x), stack(x))
    torch.testing.assert_close(pickle.loads(pickle.dumps(stack))(x), stack(x))


def test_a_model_that_was_scripted_is_what_it_was():
    """torch leaves in it what it compiled in the place of a block."""

    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Residual(Weighted(), DIM, dropout=0.5)

        def forward(self, x, memory):
            return self.block(x, memory)

    model, (x, _), memory = Reading().eval(), inputs(), torch.randn(DIM)
    before = model.block(x, memory=memory)
    for _ in range(2):
        scripted = torch.jit.script(model)
        torch.testing.assert_close(model.block(x, memory=memory), before)
    torch.testing.assert_close(scripted(x, memory), before)
    model.train()
    assert not torch.equal(model(x, memory), model(x, memory))
    model.eval()
    for block in (copy.deepcopy(model.block), pickle.loads(pickle.dumps(model.block))):
        assert type(block) is Residual
        torch.testing.assert_close(block(x, memory), before)
    hooked = []
    model.block.register_forward_hook(lambda *_: hooked.append(1))
    model(x, memory)
    assert len(hooked) == 1


@pytest.mark.parametrize(
    "choices",
    [("recursive", "layer", "post"), ("hyper-dynamic", "rms", "pre"), ("plain", "batch", "post")],
    ids="-".join,
)
@torch.no_grad()
def test_it_is_exported(choices):
    block, (x, mask) = made(*choices), inputs()
    exported = torch.export.export(block, (x,), {"padding_mask": mask}).module()
    torch.testing.assert_close(exported(x, padding_mask=mask), block(x, padding_mask=mask))


@pytest.mark.parametrize(
    "choices", [("recursive", "layer", "post"), ("hyper-dynamic", "rms", "pre")], ids="-".join
)
def test_it_is_compiled_in_one_graph(choices):
    block, (x, mask) = made(*choices), inputs()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, padding_mask=mask), block(x, padding_mask=mask))
