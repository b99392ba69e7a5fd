"""A block in plain PyTorch: what it computes, and that it is saved, copied and compiled."""

import copy
import inspect
import io
import pickle
import subprocess
import sys
from typing import Optional

import pytest
import torch
from torch import nn

from skipln_fairseq.nn import (
    NORMS,
    PLACEMENTS,
    SKIPS,
    Branch,
    ChoiceError,
    ConnectionConfig,
    Residual,
    build_connection,
    choose,
    fuse,
    set_num_updates,
)
from skipln_fairseq.nn.valid import valid_norms, valid_placements
from tests.support.commands import REPOSITORY

DIM = 8
PLACE = {"layer": 1, "depth": 3, "index": 0, "size": 2}
ALONE = [skip for skip in SKIPS if not SKIPS[skip].measures]


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(DIM, 16), nn.Linear(16, DIM)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))

    def branch(self):
        return Branch((), (self.fc1, self.fc2))


class Weighted(nn.Module):
    """Reads one tensor more, as cross-attention does."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)

    def forward(self, x, memory):
        return self.linear(x) * memory


def valid():
    """Every skip, norm and placement that go together."""
    for skip in ALONE:
        for norm in valid_norms(skip):
            for placement in valid_placements(skip, norm):
                if not PLACEMENTS[placement].declaration.qk_norms:
                    yield skip, norm, placement


def needed(*choices):
    """A value of each option that has to be given, by its flag."""
    declarations = [
        axis[name].declaration for axis, name in zip((SKIPS, NORMS, PLACEMENTS), choices, strict=True)
    ]
    options = [option for one in declarations for option in one.options if option.default is None]
    return {option.flag: option.choices[0] if option.choices else int(option.drawn[1]) for option in options}


def made(skip="plain", norm="layer", placement="post", **more):
    torch.manual_seed(1)
    function = FeedForward()
    place = {"branch": function.branch()} | PLACE | more
    return Residual(function, DIM, skip, norm, placement, **place, **needed(skip, norm, placement)).eval()


def inputs():
    torch.manual_seed(2)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    mask[0, 2] = True
    return torch.randn(2, 3, DIM), mask


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


class Stack(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.end = blocks[-1].make_end()

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.end(x)


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


@pytest.mark.parametrize("skip", ALONE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_goes_with_every_skip(skip, dtype):
    block = made(*next(each for each in valid() if each[0] == skip)).train()
    with torch.autocast("cpu", dtype):
        y = block(inputs()[0])
    y.float().sum().backward()
    assert y.isfinite().all()


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


def test_the_skip_connection_of_everyone():
    x, _ = inputs()
    block = Residual(torch.tanh, DIM, dropout=0.5).eval()
    torch.testing.assert_close(block(x), nn.functional.layer_norm(x + x.tanh(), [DIM]))


def test_the_recursive_skip():
    x, _ = inputs()
    norm = nn.LayerNorm(DIM)
    block = Residual(torch.tanh, DIM, skip="recursive", order=2)
    torch.testing.assert_close(block(x), norm(x + norm(x + x.tanh())))


def test_dropout_is_of_training_alone():
    torch.manual_seed(1)
    x = torch.zeros(50, DIM)
    block = Residual(torch.ones_like, DIM, norm="none", dropout=0.25)
    assert block(x).unique().tolist() == pytest.approx([0, 1 / 0.75])
    torch.testing.assert_close(block.eval()(x), torch.ones(50, DIM))


def test_f_has_what_else_it_wants():
    x, _ = inputs()
    block = Residual(lambda h, a, *, b: a * h + b, DIM, norm="none")
    torch.testing.assert_close(block(x, 2.0, b=1.0), 3 * x + 1)


def test_padding_is_no_part_of_a_batch():
    x, mask = inputs()
    block = Residual(nn.Identity(), DIM, norm="batch")
    y = block(x, padding_mask=mask)
    x[mask] = 100.0
    torch.testing.assert_close(block(x, padding_mask=mask)[~mask], y[~mask])


@pytest.mark.parametrize(("skip", "end"), [("dual", DIM), ("hyper", DIM), ("siamese", DIM), ("b2t", DIM)])
def test_a_stack_that_carries_more_than_x(skip, end):
    """Two layers of two blocks each: what comes out is as wide as what went in."""
    placement = valid_placements(skip, "layer")[0]
    blocks = [
        made(skip, "layer", placement, **PLACE | {"layer": layer, "depth": 2, "index": index})
        for layer in range(2)
        for index in range(2)
    ]
    x, _ = inputs()
    assert blocks[0](x).size(-1) > DIM
    assert Stack(*blocks)(x).size(-1) == end


def test_first_weights_follow_from_the_depth():
    torch.manual_seed(1)
    shallow, deep = (made("deepnorm", depth=depth).function.fc1.weight.std() for depth in (2, 200))
    assert float(shallow / deep) == pytest.approx(100**0.25, rel=0.2)
    assert made("deepnorm", depth=8).connection.skip.scale == 2.0
    assert made("deepnorm", depth=(6, 27), side="decoder").connection.skip.scale == 3.0


def test_the_inner_norm_of_sub_ln_is_before_the_last_projection():
    block = made("plain", "layer", "sub")
    assert isinstance(block.function.fc2.norm, nn.LayerNorm)
    attention = nn.MultiheadAttention(DIM, 1)
    branch = Branch((), (attention.out_proj,))
    with pytest.raises(ChoiceError, match=r"valid is a plain nn\.Linear there"):
        Residual(attention, DIM, placement="sub", depth=2, branch=branch)


def test_blocks_of_a_layer_share_what_the_method_shares():
    first = made("rezero", "none")
    assert made("rezero", "none", first=first).connection.skip.scale is first.connection.skip.scale


def test_a_block_shares_with_none_of_another_skip():
    with pytest.raises(ChoiceError, match="first= has skip 'plain': valid is a block with skip 'rezero'"):
        made("rezero", "none", first=made())


def test_no_option_has_the_name_of_an_argument():
    own = set(inspect.signature(Residual).parameters)
    for registry in (SKIPS, NORMS, PLACEMENTS):
        assert not [one for each in registry.declarations() for one in each.options if one.name in own]


def test_branches_come_in_with_the_updates():
    x, _ = inputs()
    block = Residual(torch.ones_like, DIM, skip="prores", placement="pre", layer=1, steps=10)
    torch.testing.assert_close(block(x), x)
    set_num_updates(nn.Sequential(block), 5)
    torch.testing.assert_close(block(x), x + 5 / 20)


def test_the_flags_have_the_same_table():
    """Every combination of all is accepted here where the flags accept it."""
    for skip in ALONE:
        for norm in NORMS:
            for placement in PLACEMENTS:
                valid = norm in valid_norms(skip) and placement in valid_placements(skip, norm)
                try:
                    options = needed(skip, norm, placement)
                    assert choose(skip, norm, placement, **options).placement == placement
                except ChoiceError:
                    assert not valid
                else:
                    assert valid
