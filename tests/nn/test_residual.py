"""A block in plain PyTorch: what it computes."""

import inspect

import pytest
import torch
from torch import nn

from skipln_fairseq.nn import (
    NORMS,
    PLACEMENTS,
    SKIPS,
    Branch,
    ChoiceError,
    Residual,
    choose,
    set_num_updates,
)
from skipln_fairseq.nn.valid import valid_norms, valid_placements
from tests.support.blocks import ALONE, DIM, PLACE, Stack, inputs, made, needed, valid


@pytest.mark.parametrize("skip", ALONE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_goes_with_every_skip(skip, dtype):
    block = made(*next(each for each in valid() if each[0] == skip)).train()
    with torch.autocast("cpu", dtype):
        y = block(inputs()[0])
    y.float().sum().backward()
    assert y.isfinite().all()


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
    later = made("rezero", "none", first=first, index=1)
    assert later.connection.skip.scale is first.connection.skip.scale
    assert made("rezero", "none", index=0).connection.skip.scale is not first.connection.skip.scale


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
