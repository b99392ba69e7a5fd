"""Placements that follow from the depth, and those with options."""

import pytest
import torch

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.nn import NORMS
from tests.support.build import batch, build


def made(placement, *flags, skip=("--skip-type", "plain"), **how):
    flags = (*skip, "--norm-placement", placement, "--kernels", "reference", *flags)
    return build("transformer_rskip", *flags, **how)


def logits(model):
    return model.eval()(*batch())[0]


@pytest.mark.parametrize(
    ("share", "encoder", "decoder"),
    [("0", 0, 0), ("0.25", 0, 1), ("0.5", 1, 2), ("0.74", 2, 2), ("0.7500", 2, 3), ("1", 3, 4)],
)
def test_mix_is_post_in_the_first_share_of_the_layers(share, encoder, decoder):
    """Of three encoder and four decoder layers; Post-LN throughout has no norm at the end."""
    model = made("mix", "--mix-share", share, "--encoder-layers", "3", "--decoder-layers", "4")
    for stack, post in ((model.encoder, encoder), (model.decoder, decoder)):
        kinds = [type(layer.final_layer_norm).__bases__[0].__name__ for layer in stack.layers]
        assert kinds == ["Post"] * post + ["Pre"] * (len(kinds) - post)
        assert (stack.layer_norm is None) == (post == len(kinds))


@pytest.mark.parametrize(("share", "placement"), [("0", "pre"), ("1", "post")])
def test_mix_of_one_kind_is_that_kind(share, placement):
    one, other = made(placement), made("mix", "--mix-share", share)
    assert one.state_dict().keys() == other.state_dict().keys()
    assert torch.equal(logits(one), logits(other))


def test_mix_keeps_its_layers_when_others_are_taken_out():
    flags = ("--mix-share", "0.5", "--encoder-layers", "4", "--encoder-layers-to-keep", "1,3")
    kinds = [
        type(layer.final_layer_norm).__bases__[0].__name__ for layer in made("mix", *flags).encoder.layers
    ]
    assert kinds == ["Post", "Pre"]


@pytest.mark.parametrize("norm", ["layer", "rms", "rms-zero", "scale", "dyt", "seed", "bhyt"])
def test_the_two_readings_of_lns_are_one_model_at_first(norm):
    """The constant, and the gain that starts at it: the latter is learned, and is in the checkpoint."""
    flags = ("--skip-norm", norm, "--encoder-layers", "3")
    constant, gain = made("lns", *flags), made("lns", "--lns-gain", *flags)
    torch.testing.assert_close(logits(constant), logits(gain), rtol=1e-5, atol=1e-5)
    expected = NORMS[norm](16).weight.detach() + (norm == "rms-zero")
    for number, layer in enumerate(gain.encoder.layers, start=1):
        weight = layer.final_layer_norm.weight.detach() + (norm == "rms-zero")
        torch.testing.assert_close(weight, expected / number**0.5)


def test_lns_gain_needs_a_gain():
    with pytest.raises(
        UserError, match="--skip-norm layer-simple does not go with --norm-placement lns: --lns-gain"
    ):
        made("lns", "--lns-gain", "--skip-norm", "layer-simple")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--mix-share", "0.5"), "--mix-share has no meaning with .*it belongs to --norm-placement mix"),
        (
            ("--norm-placement", "mix", "--mix-share=-1"),
            "--mix-share -1: valid is a finite number of at least 0 and of at most 1",
        ),
        (("--norm-placement", "mix", "--mix-share=1.1"), "--mix-share 1.1: valid is a finite number"),
        (("--norm-placement", "keel"), "--norm-placement keel does not go with --skip-type plain"),
    ],
)
def test_what_means_nothing_is_refused(flags, message):
    with pytest.raises(UserError, match=message):
        build("transformer_rskip", "--skip-type", "plain", *flags)


def test_keels_alpha_is_not_guessed():
    with pytest.raises(UserError, match="--skip-type expanded needs --skip-scale λ"):
        made("keel", skip=("--skip-type", "expanded"))
