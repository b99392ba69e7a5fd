"""Flags: presets, overrides for one side, and one clear line for everything that means nothing."""

import sys
from argparse import Namespace

import pytest
from fairseq.models.transformer import TransformerConfig

from skipln_fairseq.errors import UserError, print_user_errors_in_one_line
from skipln_fairseq.models.family import FAMILY, OPTIONS, valid_norms, valid_placements
from skipln_fairseq.models.flags import connections
from skipln_fairseq.models.presets import ALIGN_PRESETS, PRESETS
from skipln_fairseq.nn import NORMS, PLACEMENTS, SKIPS, ConnectionConfig, SkipOptions
from tests.build import build, parse

RSKIP_2 = ConnectionConfig("recursive", options=SkipOptions(order=2))


def resolved(*flags, arch="transformer_rskip"):
    return connections(parse(arch, *flags))


@pytest.mark.parametrize("arch", [*PRESETS, *ALIGN_PRESETS])
def test_every_preset_is_the_recursive_skip_of_order_two(arch):
    assert resolved(arch=arch) == {"encoder": RSKIP_2, "decoder": RSKIP_2}


@pytest.mark.parametrize(
    ("arch", "dims"),
    [
        ("transformer_rskip", (512, 2048, 8, 6, 6)),
        ("transformer_rskip_tiny", (128, 512, 4, 2, 2)),
        ("transformer_rskip_iwslt_de_en", (512, 1024, 4, 6, 6)),
        ("transformer_rskip_iwslt_en_vi", (512, 1024, 4, 6, 6)),
        ("transformer_rskip_wmt_en_de", (512, 2048, 8, 6, 6)),
        ("transformer_rskip_wmt_en_de_18_6", (512, 2048, 8, 18, 6)),
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
    assert connections(args)["encoder"].options.order == 4


def test_a_side_overrides_both():
    both = resolved("--skip-order", "3", "--decoder-skip-type", "expanded", "--decoder-skip-scale", "1.5")
    assert both["encoder"] == ConnectionConfig("recursive", options=SkipOptions(order=3))
    assert both["decoder"] == ConnectionConfig("expanded", options=SkipOptions(scale=1.5))
    both = resolved("--share-skip-norms", "--encoder-skip-order", "5", "--no-decoder-share-skip-norms")
    assert both["encoder"] == ConnectionConfig("recursive", options=SkipOptions(order=5), share_norms=True)
    assert both["decoder"] == RSKIP_2


def test_a_preset_fills_only_what_the_resolved_type_uses():
    args = parse("transformer_rskip", "--skip-type", "plain")
    assert not hasattr(args, "skip_order")
    assert connections(args) == dict.fromkeys(("encoder", "decoder"), ConnectionConfig())


def test_the_flags_survive_fairseqs_config():
    args = parse("transformer_rskip", "--skip-order", "3", "--decoder-skip-order", "5")
    assert connections(TransformerConfig.from_namespace(args)) == connections(args)


def test_a_stock_model_describes_the_stock_connection():
    assert set(resolved(arch="transformer").values()) == {ConnectionConfig()}
    pre = resolved("--encoder-normalize-before", arch="transformer")
    assert (pre["encoder"].placement, pre["decoder"].placement) == ("pre", "post")


REFUSED = {
    "--skip-order 0": "--skip-order 0: valid is a whole number of at least 1",
    "--skip-order -2": "--skip-order -2: valid is a whole number of at least 1",
    "--skip-order 1.5": "--skip-order 1.5: valid is a whole number of at least 1",
    "--skip-order two": "--skip-order two: valid is a whole number of at least 1",
    "--encoder-skip-order 0": "--encoder-skip-order 0: valid is a whole number of at least 1",
    "--skip-type foo": "--skip-type foo: valid are plain, expanded, recursive",
    "--decoder-skip-type foo": "--decoder-skip-type foo: valid are plain, expanded, recursive",
    "--skip-norm foo": "--skip-norm foo: valid are layer, none",
    "--skip-type expanded": "--skip-type expanded needs --skip-scale λ, a finite number",
    "--skip-type expanded --skip-scale nan": "--skip-scale nan: valid is a finite number",
    "--skip-type expanded --skip-scale inf": "--skip-scale inf: valid is a finite number",
    "--skip-type expanded --skip-scale x": "--skip-scale x: valid is a finite number",
    "--skip-norm none": "--skip-norm none does not go with --skip-type recursive: valid are layer",
    "--encoder-normalize-before": "--encoder-normalize-before does not go with --skip-type recursive",
    "--skip-type expanded --skip-scale 2 --decoder-normalize-before": "--decoder-normalize-before does not",
    "--skip-type plain --skip-norm none --encoder-normalize-before": "--encoder-normalize-before does",
    "--skip-type plain --skip-order 3": "--skip-order has no meaning with --skip-type plain: it belongs",
    "--skip-scale 2": "--skip-scale has no meaning with --skip-type recursive: it belongs to expanded",
    "--skip-type expanded --skip-scale 1 --share-skip-norms": "--share-skip-norms has no meaning with",
    "--encoder-skip-type plain --encoder-skip-order 3": "--encoder-skip-order has no meaning with",
    "--base-layers 1": "--base-layers: a BASE layer has its own connection",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_what_means_nothing_is_refused_when_the_model_is_built(flags):
    with pytest.raises(UserError) as error:
        build("transformer_rskip", *flags.split())
    assert REFUSED[flags] in str(error.value)
    assert "\n" not in str(error.value)


def test_onnx_export_is_refused():
    with pytest.raises(UserError, match="ONNX"):
        build("transformer_rskip").prepare_for_onnx_export_()


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_exactly_the_family_is_accepted(skip, norm, placement):
    """Every combination of the registries is either in the table and builds, or is refused."""
    flags = ["--skip-type", skip, "--skip-norm", norm]
    if skip == "expanded":
        flags += ["--skip-scale", "2"]
    if placement == "pre":
        flags += ["--encoder-normalize-before", "--decoder-normalize-before"]
    if any(m.skip == skip and norm in m.norms and placement in m.placements for m in FAMILY):
        build("transformer_rskip", *flags)
    else:
        with pytest.raises(UserError):
            build("transformer_rskip", *flags)


def test_the_table_names_only_what_the_registries_hold():
    assert set(OPTIONS) == set(SKIPS) == {member.skip for member in FAMILY}
    assert {norm for skip in SKIPS for norm in valid_norms(skip)} == set(NORMS)
    placements = {p for skip in SKIPS for norm in NORMS for p in valid_placements(skip, norm)}
    assert placements == set(PLACEMENTS)


def test_a_user_error_is_one_line_and_others_keep_their_hook(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: seen.append(error))
    print_user_errors_in_one_line()
    sys.excepthook(UserError, UserError("wrong"), None)
    assert capsys.readouterr().err == "skipln_fairseq: error: wrong\n"
    assert seen == []
    sys.excepthook(KeyError, KeyError("x"), None)
    assert len(seen) == 1
