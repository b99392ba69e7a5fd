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


def placed(stack):
    """By layer, for each sub-layer the placement that stands there."""
    norms = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
    found = [[getattr(layer, name, None) for name in norms] for layer in stack.layers]
    return [[type(one).__bases__[0].__name__ for one in layer if one is not None] for layer in found]


def norm_parameters(model):
    return {key for key, _ in model.named_parameters() if "layer_norm" in key}


@pytest.mark.parametrize("star", [False, True])
def test_hybrid_has_one_norm_a_layer_and_one_at_the_end(star):
    model = made("hybrid-star" if star else "hybrid", "--encoder-layers", "3")
    encoder, decoder = ["Post", "Sum"], ["Sum", "Post", "Sum"]
    assert placed(model.encoder) == [["Pre"] * 2 if star else encoder, encoder, encoder]
    assert placed(model.decoder) == [["Pre"] * 3 if star else decoder, decoder]
    norms = {key.removesuffix(".weight") for key in norm_parameters(model) if key.endswith(".weight")}
    without = {
        *(f"encoder.layers.{n}.final_layer_norm" for n in range(star, 3)),
        *(f"decoder.layers.{n}.{name}_layer_norm" for n in range(star, 2) for name in ("self_attn", "final")),
    }
    every = {key.removesuffix(".weight") for key in norm_parameters(made("pre", "--encoder-layers", "3"))}
    assert norms == {key for key in every if not key.endswith(".bias")} - without
    assert sum(".v_proj.norm." in key for key in model.state_dict()) == 3 + 2 * 2


def test_hybrid_without_a_source_norms_after_self_attention():
    model = made("hybrid", "--no-cross-attention")
    assert placed(model.decoder) == [["Post", "Sum"]] * 2


def test_hybrid_star_keeps_its_layers_when_others_are_taken_out():
    flags = ("--encoder-layers", "4", "--encoder-layers-to-keep", "0,3")
    assert placed(made("hybrid-star", *flags).encoder) == [["Pre", "Pre"], ["Post", "Sum"]]
    flags = ("--encoder-layers", "4", "--encoder-layers-to-keep", "1,3")
    assert placed(made("hybrid-star", *flags).encoder) == [["Post", "Sum"]] * 2


@pytest.mark.parametrize(
    "flags",
    [
        ("--decoder-self-attn-skip-norm", "rms"),
        ("--decoder-by-layer", "0:self-attn-skip-norm=rms"),
        ("--decoder-self-attn-skip-norm", "rms", "--decoder-layers", "3", "--decoder-layers-to-keep", "1,2"),
        ("--encoder-self-attn-skip-norm", "rms", "--decoder-cross-attn-skip-norm", "rms"),
        ("--encoder-ffn-skip-norm", "rms"),
        ("--encoder-layers", "0", "--encoder-self-attn-skip-norm", "rms"),
    ],
)
def test_norms_of_sub_layers_that_some_layer_has_are_taken(flags):
    made("hybrid-star", *flags)


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
        (
            ("--norm-placement", "hybrid", "--qk-norm", "rms"),
            "--qk-norm rms does not go with --norm-placement hybrid of the encoder: valid there are rms-qkv",
        ),
        (
            ("--norm-placement", "hybrid", "--decoder-self-attn-skip-norm", "rms"),
            "--decoder-self-attn-skip-norm has no meaning with --norm-placement hybrid: no norm stands there",
        ),
        (
            ("--norm-placement", "hybrid-star", "--decoder-by-layer", "1:self-attn-skip-norm=rms"),
            "--by-layer 1-1:self-attn-skip-norm has no meaning with --norm-placement hybrid-star: no norm",
        ),
        (
            ("--encoder-by-layer", "0:cross-attn-skip-norm=rms"),
            "--by-layer 0-0:cross-attn-skip-norm has no meaning: the encoder has no such sub-layer",
        ),
        (("--norm-placement", "hybrid", "--skip-norm", "none"), "hybrid does not go with"),
    ],
)
def test_what_means_nothing_is_refused(flags, message):
    with pytest.raises(UserError, match=message):
        build("transformer_rskip", "--skip-type", "plain", *flags)


def test_keels_alpha_is_not_guessed():
    with pytest.raises(UserError, match="--skip-type expanded needs --skip-scale λ"):
        made("keel", skip=("--skip-type", "expanded"))
