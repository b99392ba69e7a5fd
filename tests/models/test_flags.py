"""Flags: presets, overrides for one side, and one clear line for everything that means nothing."""

import argparse
import sys
from argparse import Namespace
from types import NoneType

import pytest
import torch
from fairseq.models.transformer import TransformerConfig

from skipln_fairseq.common.errors import UserError, print_user_errors_in_one_line
from skipln_fairseq.models.family import declarations, example
from skipln_fairseq.models.flags import connections, remember_depth
from skipln_fairseq.models.parser import _add_option
from skipln_fairseq.models.presets import ALIGN_PRESETS, PRESETS
from skipln_fairseq.models.refuse import refuse
from skipln_fairseq.nn import NORMS, PLACEMENTS, SKIPS
from skipln_fairseq.nn.valid import valid_norms, valid_placements
from skipln_fairseq.nn.variant import Option
from tests.support.build import build, middle, parse, wiring


def wired(stacks):
    """What the sub-layers of each side are wired with."""
    return {side: (stack.self_attn, stack.cross_attn, stack.ffn) for side, stack in stacks.items()}


def everywhere(*choices, **more):
    """A stack whose sub-layers are all wired alike."""
    return (wiring(*choices, **more),) * 3


RSKIP_2 = everywhere("recursive", order=2, share=False)


def resolved(*flags, arch="transformer_rskip"):
    return connections(parse(arch, *flags))


@pytest.mark.parametrize("arch", [arch for arch in (*PRESETS, *ALIGN_PRESETS) if "rskip" in arch])
def test_every_rskip_preset_is_the_recursive_skip_of_order_two(arch):
    assert wired(resolved(arch=arch)) == {"encoder": RSKIP_2, "decoder": RSKIP_2}


@pytest.mark.parametrize(
    ("arch", "dims"),
    [
        ("transformer_rskip", (512, 2048, 8, 6, 6)),
        ("transformer_rskip_tiny", (128, 512, 4, 2, 2)),
        ("transformer_rskip_iwslt_de_en", (512, 1024, 4, 6, 6)),
        ("transformer_rskip_iwslt_en_vi", (512, 1024, 4, 6, 6)),
        ("transformer_rskip_wmt_en_de", (512, 2048, 8, 6, 6)),
        ("transformer_rskip_wmt_en_de_18_6", (512, 2048, 8, 18, 6)),
        ("transformer_rskip_wmt_en_de_36_6", (512, 2048, 8, 36, 6)),
        ("transformer_deepnorm_wmt_en_de_100_6", (512, 2048, 8, 100, 6)),
        ("transformer_rskip_wmt_en_de_big", (1024, 4096, 16, 6, 6)),
        ("transformer_rskip_wmt_en_fr_big", (1024, 4096, 16, 6, 6)),
        ("transformer_rskip_vaswani_wmt_en_de_big", (1024, 4096, 16, 6, 6)),
    ],
)
def test_dimensions_of_the_presets(arch, dims):
    args = Namespace()
    PRESETS[arch](args)
    names = "encoder_embed_dim encoder_ffn_embed_dim encoder_attention_heads encoder_layers decoder_layers"
    assert tuple(getattr(args, name) for name in names.split()) == dims
    assert args.decoder_embed_dim == args.encoder_embed_dim


def test_a_preset_applied_twice_changes_nothing():
    args = parse("transformer_rskip_tiny", "--skip-order", "4", "--decoder-skip-type", "plain")
    before = dict(vars(args))
    PRESETS["transformer_rskip_tiny"](args)
    assert vars(args) == before


def test_the_command_line_beats_the_preset():
    args = parse("transformer_rskip_tiny", "--encoder-layers", "5", "--skip-order", "4")
    assert (args.encoder_layers, args.decoder_layers) == (5, 2)
    assert connections(args)["encoder"].ffn.options[0][1] == 4


def test_a_side_overrides_both():
    both = resolved("--skip-order", "3", "--decoder-skip-type", "expanded", "--decoder-skip-scale", "1.5")
    assert wired(both)["encoder"] == everywhere("recursive", order=3, share=False)
    assert wired(both)["decoder"] == everywhere("expanded", scale=1.5)
    both = resolved("--share-skip-norms", "--encoder-skip-order", "5", "--no-decoder-share-skip-norms")
    assert wired(both)["encoder"] == everywhere("recursive", order=5, share=True)
    assert wired(both)["decoder"] == RSKIP_2


def test_a_preset_fills_only_what_the_resolved_type_uses():
    args = parse("transformer_rskip", "--skip-type", "plain")
    assert not hasattr(args, "skip_order")
    assert wired(connections(args)) == {"encoder": everywhere(), "decoder": everywhere()}


def test_the_flags_survive_fairseqs_config():
    args = parse("transformer_rskip", "--skip-order", "3", "--decoder-skip-order", "5")
    assert connections(TransformerConfig.from_namespace(args)) == connections(args)


def test_a_stock_model_describes_the_stock_connection():
    assert set(wired(resolved(arch="transformer")).values()) == {everywhere()}
    pre = resolved("--encoder-normalize-before", arch="transformer")
    assert (pre["encoder"].ffn.placement, pre["decoder"].ffn.placement) == ("pre", "post")


REFUSED = {
    "--skip-order 0": "--skip-order 0: valid is a whole number of at least 1",
    "--skip-order -2": "--skip-order -2: valid is a whole number of at least 1",
    "--skip-order 1.5": "--skip-order 1.5: valid is a whole number of at least 1",
    "--skip-order two": "--skip-order two: valid is a whole number of at least 1",
    "--encoder-skip-order 0": "--encoder-skip-order 0: valid is a whole number of at least 1",
    "--initialisation foo": "--initialisation foo: valid are ds, t-fixup, lipschitz, fairseq",
    "--skip-type plain --initialisation t-fixup": "t-fixup is for --skip-norm none, and not for layer",
    "--skip-type deepnorm --initialisation ds": "does not go with --skip-type deepnorm and --norm-placement post",
    "--skip-type b2t --encoder-initialisation ds": "does not go with --skip-type b2t",
    "--skip-type plain --norm-placement sub --initialisation lipschitz": "--norm-placement sub, whose first weights",
    "--ds-init-alpha 0.5": "it belongs to --initialisation ds",
    "--initialisation ds --ds-init-alpha 0": "valid is a finite number above 0",
    "--skip-type foo": "--skip-type foo: valid are highway, plain, rezero",
    "--decoder-skip-type foo": "--decoder-skip-type foo: valid are highway, plain, rezero",
    "--skip-norm foo": "--skip-norm foo: valid are batch, layer, scale",
    "--encoder-ffn-skip-norm foo": "--encoder-ffn-skip-norm foo: valid are batch, layer,",
    "--norm-placement foo": "--norm-placement foo: valid are post, pre, sandwich, res-post, sub",
    "--norm-placement pre": "--norm-placement pre does not go with --skip-type recursive --skip-norm layer",
    "--skip-type plain --norm-placement sub --encoder-normalize-before": "--encoder-normalize-before means pre",
    "--skip-type plain --norm-placement sub --skip-norm batch": "--norm-placement sub does not go with",
    "--skip-type expanded": "--skip-type expanded needs --skip-scale λ",
    "--skip-type rezero --skip-norm layer --norm-placement post": "valid placements of the norm are pre",
    "--skip-type deepnorm --skip-norm batch": "--skip-norm batch does not go with --skip-type deepnorm",
    "--skip-type dual --no-decoder-final-norm": "--no-decoder-final-norm with --skip-type dual",
    "--skip-type hyper --no-decoder-final-norm": "--no-decoder-final-norm with --skip-type hyper",
    "--skip-type hyper --norm-placement post": "--norm-placement post does not go with --skip-type hyper",
    "--skip-type hyper --skip-norm batch": "--skip-norm batch does not go with --skip-type hyper",
    "--skip-type hyper --skip-streams 0": "--skip-streams 0: valid is a whole number of at least 1",
    "--skip-type frac --skip-fractions 3": "--skip-type frac: 3 does not divide the width of 16",
    "--decoder-skip-type frac-dynamic --skip-fractions 5": "--skip-type frac-dynamic: 5 does not divide",
    "--skip-type mhc --mhc-start factory": "--skip-type mhc needs --mhc-end END",
    "--skip-type hyper-identity --mhc-end sum": "--skip-type hyper-identity needs --mhc-start START",
    "--skip-type mhc --mhc-end sum --mhc-start zero": "--mhc-start zero: valid is megatron or factory",
    "--skip-type siamese --siamese-source x": "--siamese-source x: valid is code or paper",
    "--skip-norm ada --adanorm-scale 0": "--adanorm-scale 0: valid is a finite number above 0",
    "--skip-norm ada --adanorm-slope x": "--adanorm-slope x: valid is a finite number",
    "--adanorm-slope 0.2": "--adanorm-slope has no meaning with --skip-type recursive and the other choices: "
    "it belongs to --skip-norm ada",
    "--skip-norm power --power-warmup -1": "--power-warmup -1: valid is a whole number of at least 0",
    "--encoder-skip-norm power --decoder-power-warmup 5": "--decoder-power-warmup has no meaning with",
    "--skip-type layerscale --layerscale-init nan": "--layerscale-init nan: valid is a finite number",
    "--layerscale-init 1": "--layerscale-init has no meaning with --skip-type recursive",
    "--skip-type rezero --skip-scale-vector": "--skip-scale-vector has no meaning with --skip-type rezero",
    "--skip-type expanded --skip-scale nan": "--skip-scale nan: valid is a finite number",
    "--skip-type expanded --skip-scale inf": "--skip-scale inf: valid is a finite number",
    "--skip-type expanded --skip-scale x": "--skip-scale x: valid is a finite number",
    "--skip-norm none": "--skip-norm none does not go with --skip-type recursive: valid are layer",
    "--encoder-normalize-before": "--encoder-normalize-before does not go with --skip-type recursive",
    "--decoder-normalize-before": "--decoder-normalize-before does not go with --skip-type recursive",
    "--skip-type plain --skip-norm none --encoder-normalize-before": "--encoder-normalize-before does",
    "--skip-type plain --skip-order 3": "--skip-order has no meaning with --skip-type plain and the",
    "--skip-scale 2": "--skip-scale has no meaning with --skip-type recursive and the other choices: "
    "it belongs to expanded, learned",
    "--skip-type expanded --skip-scale 1 --share-skip-norms": "--share-skip-norms has no meaning with",
    "--encoder-skip-type plain --encoder-skip-order 3": "--encoder-skip-order has no meaning with",
    "--skip-norm power --store-ema": "--store-ema ",
    "--skip-type admin --store-ema": "--store-ema ",
    "--skip-type prores --store-ema": "--store-ema has no meaning with --skip-type prores",
    "--skip-type branchnorm": "--skip-type branchnorm needs --branchnorm-updates T",
    "--skip-norm power --fp16": "--skip-norm power does not go with --fp16: valid are single precision and --bf16",
    "--no-cross-attention --decoder-cross-attn-skip-norm rms": "--decoder-cross-attn-skip-norm has no meaning",
    "--base-layers 1": "--base-layers: a BASE layer has its own connection",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_what_means_nothing_is_refused_when_the_model_is_built(flags, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # else --fp16 and --amp are refused as such
    with pytest.raises(UserError) as error:
        build("transformer_rskip", *flags.split())
    assert REFUSED[flags] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("flags", ["", "--norm-placement pre", "--decoder-normalize-before"])
def test_base_layers_go_with_stocks_own_connections(flags):
    refuse(parse("transformer_rskip", "--base-layers", "1", "--skip-type", "plain", *flags.split()))


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_side_without_layers_builds_as_stocks_does(side):
    assert len(getattr(build("transformer_rskip", f"--{side}-layers", "0"), side).layers) == 0


def test_onnx_export_is_refused():
    with pytest.raises(UserError, match="ONNX"):
        build("transformer_rskip").prepare_for_onnx_export_()


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_exactly_the_family_is_accepted(skip, norm, placement):
    """Every combination of the registries is either in the table and means something, or is refused."""
    args = Namespace(skip_type=skip, skip_norm=norm, norm_placement=placement)
    args.encoder_layers = args.decoder_layers = 2
    for option in SKIPS[skip].declaration.options:
        if option.default is None:
            setattr(args, option.flag, middle(option))
    goes_with = SKIPS[skip].declaration.goes_with
    kind = NORMS[norm].declaration.kind
    if any(kind in kinds and placement in placements for kinds, placements in goes_with):
        chosen = connections(args)["encoder"].ffn
        assert (chosen.skip, chosen.norm, chosen.placement) == (skip, norm, placement)
    else:
        with pytest.raises(UserError):
            connections(args)


def test_each_norm_and_placement_goes_with_some_skip_type():
    assert {norm for skip in SKIPS for norm in valid_norms(skip)} == set(NORMS)
    placements = {p for skip in SKIPS for norm in NORMS for p in valid_placements(skip, norm)}
    assert placements == set(PLACEMENTS)


@pytest.mark.parametrize("variant", [*declarations()], ids=lambda variant: f"{variant.axis} {variant.choice}")
def test_the_flags_of_each_row_choose_it(variant):
    chosen = resolved(*example(variant).split())["encoder"]
    assert getattr(chosen if hasattr(chosen, variant.axis) else chosen.ffn, variant.axis) == variant.choice


@pytest.mark.parametrize(
    ("flags", "norm", "placement"),
    [
        ("--skip-type rezero", "none", "post"),
        ("--skip-type layerscale", "layer", "pre"),
        ("--skip-type dual", "layer", "post"),
        ("--skip-type plain --encoder-normalize-before", "layer", "pre"),
        ("--skip-type rezero --skip-norm rms", "rms", "pre"),
    ],
)
def test_a_skip_type_brings_its_own_norm_and_placement(flags, norm, placement):
    config = resolved(*flags.split())["encoder"].ffn
    assert (config.norm, config.placement) == (norm, placement)


def test_norms_by_sub_layer():
    both = resolved(
        *("--skip-norm", "rms", "--decoder-skip-norm", "dyt", "--encoder-ffn-skip-norm", "scale"),
        *("--decoder-cross-attn-skip-norm", "batch", "--decoder-self-attn-skip-norm", "detach"),
    )
    assert [both["encoder"].self_attn.norm, both["encoder"].ffn.norm] == ["rms", "scale"]
    decoder = both["decoder"]
    assert [decoder.self_attn.norm, decoder.cross_attn.norm, decoder.ffn.norm] == ["detach", "batch", "dyt"]


@pytest.mark.parametrize(
    ("flags", "end"),
    [
        ("--norm-placement post", None),
        ("--norm-placement pre", "layer"),
        ("--norm-placement pre --skip-norm rms", "rms"),
        ("--norm-placement res-post --encoder-self-attn-skip-norm rms --skip-norm dyt", "dyt"),
        ("--norm-placement sandwich --skip-norm batch", "layer"),
        ("--norm-placement sub --skip-norm ada", "ada"),
        ("--norm-placement pre --skip-norm power", "layer"),
    ],
)
def test_the_norm_at_a_stacks_end_and_of_the_embeddings(flags, end):
    """At the end the feed-forward's norm, but LayerNorm for norms over the batch; embeddings fairseq's own."""
    model = build("transformer_rskip", "--skip-type", "plain", "--layernorm-embedding", *flags.split())
    for stack in (model.encoder, model.decoder):
        assert type(stack.layer_norm) is (NORMS[end] if end else NoneType)
        assert type(stack.layernorm_embedding) is torch.nn.LayerNorm


def test_deepnorms_constants_stay_when_layers_are_pruned():
    """As fairseq does it: the flag, then the number of layers that are left."""
    args = parse("transformer_rskip", "--skip-type", "deepnorm", "--encoder-layers", "6")
    remember_depth(args)
    args.encoder_layers_to_keep = "1,4"
    assert connections(args)["encoder"].layers == (1, 4)
    remember_depth(args)
    args.encoder_layers = 2
    pruned = connections(args)["encoder"]
    assert (pruned.depth, pruned.layers) == ((6, 2), (1, 4))


def test_a_user_error_is_one_line_and_others_keep_their_hook(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: seen.append(error))
    print_user_errors_in_one_line()
    sys.excepthook(UserError, UserError("wrong"), None)
    assert capsys.readouterr().err == "skipln_fairseq: error: wrong\n"
    assert seen == []
    sys.excepthook(KeyError, KeyError("x"), None)
    assert len(seen) == 1


def test_an_option_that_would_take_a_flag_of_fairseqs_is_refused_in_one_line():
    parser = argparse.ArgumentParser()
    parser.add_argument("--momentum")
    owners = {"mine": Option("momentum", "momentum", "the share of the velocity", "μ")}
    with pytest.raises(UserError, match=r"^--momentum, an option of mine: fairseq has a flag of that name; "):
        _add_option(parser, "--momentum", owners, "")
