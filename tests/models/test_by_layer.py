"""``--by-layer``: other choices for some layers of a stack."""

import pytest
import torch

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models import resume
from skipln_fairseq.models.flags import connections, remember_depth
from skipln_fairseq.models.refuse import refuse
from skipln_fairseq.nn.kernels.chain import Link
from tests.support.build import batch, build, parse

PLAIN = ("--skip-type", "plain", "--encoder-layers", "4")


def placements(*flags, side="encoder"):
    stack = connections(parse("transformer_rskip", *PLAIN, *flags))[side]
    return [stack.at(number).ffn.placement for number in stack.layers]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0-1:norm-placement=pre", ["pre", "pre", "post", "post"]),
        ("2-:norm-placement=pre", ["post", "post", "pre", "pre"]),
        ("3:norm-placement=pre", ["post", "post", "post", "pre"]),
        ("0:norm-placement=pre 2-3:norm-placement=sandwich", ["pre", "post", "sandwich", "sandwich"]),
    ],
)
def test_a_range_of_layers_has_its_own(value, expected):
    assert placements("--encoder-by-layer", *value.split()) == expected


def test_both_sides_at_once_and_one_over_it():
    flags = ("--by-layer", "0:norm-placement=pre", "--decoder-by-layer", "1:norm-placement=pre")
    assert placements(*flags) == ["pre", "post", "post", "post"]
    assert placements(*flags, side="decoder") == ["post", "pre"]


def test_skip_types_with_their_numbers_and_switches():
    flags = ("--encoder-by-layer", "1:skip-type=recursive,skip-order=3,share-skip-norms", "2-:skip-norm=rms")
    model = build("transformer_rskip", *PLAIN, *flags)
    layers = model.encoder.layers
    assert len(layers[1].final_layer_norm.skip.norms) == 2
    assert layers[1].final_layer_norm.skip.norms[0].weight is layers[1].final_layer_norm.weight
    assert [type(layer.final_layer_norm).__name__ for layer in layers][2:] == ["FusedPostRMSNorm"] * 2
    assert model.decoder.layers[0].final_layer_norm.skip.chain() == [Link()]


def test_the_other_layers_are_as_without_it():
    """Of both sides, in the model too, whose stacks are told of the flags by a config of fairseq's."""
    flags = [f"--{side}-by-layer=0:skip-norm=rms,norm-placement=pre" for side in ("encoder", "decoder")]
    model = build("transformer_rskip", "--skip-type", "plain", *flags)
    for stack in (model.encoder, model.decoder):
        kinds = [
            (type(layer.final_layer_norm).__name__, layer.final_layer_norm.ends_with_norm)
            for layer in stack.layers
        ]
        assert kinds == [("FusedPreRMSNorm", True), ("FusedPostLayerNorm", False)]
        assert stack.layer_norm is None


def test_the_stack_ends_as_its_last_layer_does():
    for value, ends in (("0:norm-placement=pre", False), ("3:norm-placement=pre", True)):
        model = build("transformer_rskip", *PLAIN, "--encoder-by-layer", value)
        assert (model.encoder.layer_norm is not None) is ends


def test_it_decodes_step_by_step_as_it_does_at_once_and_scripts():
    flags = (
        "--decoder-by-layer",
        "0:norm-placement=pre,skip-norm=rms",
        "--encoder-by-layer",
        "1-2:skip-type=highway",
    )
    model = build("transformer_rskip", *PLAIN, *flags).eval()
    source, lengths, target = batch()
    with torch.no_grad():
        full = model(source, lengths, target)[0]
        encoder_out, state = model.encoder(source, lengths), {}
        for end in range(1, target.size(1) + 1):
            step = model.decoder(target[:, :end], encoder_out=encoder_out, incremental_state=state)[0]
            real = target[:, end - 1].ne(1)
            torch.testing.assert_close(step[real, -1], full[real, end - 1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            torch.jit.script(model)(source, lengths, target)[0], full, rtol=1e-4, atol=1e-5
        )


def test_a_kept_layer_keeps_its_choices():
    args = parse("transformer_rskip", *PLAIN, "--encoder-by-layer", "3:norm-placement=pre")
    remember_depth(args)
    args.encoder_layers_to_keep = "0,3"
    stack = connections(args)["encoder"]
    assert [stack.at(number).ffn.placement for number in stack.layers] == ["post", "pre"]


def test_a_resumed_run_has_the_same():
    then, now = (
        parse("transformer_rskip", *PLAIN, "--encoder-by-layer", f"{layers}:norm-placement=pre")
        for layers in ("0-1", "0")
    )
    (found,) = resume._changes(then, now).connections
    before, after = found.split(" → ")
    assert before.startswith("encoder by layer 0-1 skip plain norm layer placement pre")
    assert after.startswith("0-0 skip plain")
    assert not resume._changes(then, then).connections


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("norm-placement=post", "valid is RANGE:NAME=VALUE"),
        ("0-2", "valid is RANGE:NAME=VALUE"),
        ("x:skip-norm=rms", "valid is RANGE:NAME=VALUE"),
        ("4:skip-norm=rms", "the stack has layers 0 to 3"),
        ("3-1:skip-norm=rms", "the stack has layers 0 to 3"),
        ("0-2:skip-norm=rms 2:skip-norm=ada", "layer 2 is in two ranges"),
        ("0:skip-norm=foo", "skip-norm foo: valid are"),
        ("0:encoder-layers=3", "valid are NAME=VALUE of skip-type"),
        ("0:skip-type=recursive", "recursive needs --skip-order K"),
        ("0:skip-order=2", "skip-order has no meaning with what layers 0-0 are made of"),
        ("1:skip-type=frac,skip-fractions=5,norm-placement=pre", "--skip-type frac:"),
        ("0:skip-type=dual", "--skip-type dual hands on more than x"),
        (
            "0:skip-type=hyper,norm-placement=pre 1-:skip-type=hyper,norm-placement=pre,skip-streams=2",
            "same numbers",
        ),
        ("0:skip-type=admin,norm-placement=pre", "does not go with"),
    ],
)
def test_what_means_nothing_is_refused(value, said):
    with pytest.raises(UserError) as error:
        refuse(parse("transformer_rskip", *PLAIN, "--encoder-by-layer", *value.split()))
    assert said in str(error.value)


def test_dlcl_is_defined_for_blocks_of_one_kind():
    flags = (*PLAIN, "--depth-mixing", "dlcl", "--norm-placement", "pre")
    refuse(parse("transformer_rskip", *flags, "--by-layer", "0:norm-placement=sandwich"))
    with pytest.raises(UserError, match=r"^--encoder-by-layer: --depth-mixing dlcl norms plain sums before"):
        refuse(parse("transformer_rskip", *flags, "--encoder-by-layer", "0:norm-placement=post"))
    with pytest.raises(
        UserError, match=r"--depth-mixing dlcl does not go with .*: valid there are none, denseformer"
    ):
        refuse(parse("transformer_rskip", *PLAIN, "--depth-mixing", "dlcl", "--norm-placement", "mix"))
