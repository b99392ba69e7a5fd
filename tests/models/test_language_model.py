"""The language model: fairseq's ``transformer_lm`` with our connections, built from flags and through commands."""

import numpy as np
import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_REGISTRY

import skipln_fairseq  # noqa: F401  (registers the architectures)
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models.presets import LM_PRESETS
from skipln_fairseq.nn import PLACEMENTS, Connection
from tests.support.build import ADAPTIVE_LOSS, Task

SMALL = ["--decoder-embed-dim=16", "--decoder-ffn-embed-dim=32", "--decoder-layers=2"]
SMALL += ["--decoder-attention-heads=2"]

# fairseq's transformer_lm_ architectures are Pre-LN; this one, made small, is its base architecture
STOCK = "transformer_lm_big"
CUTOFFS = " ".join(("--adaptive-input-cutoff 10,20 --adaptive-softmax-cutoff 10,20", *ADAPTIVE_LOSS))
ADAPTIVE = f"--adaptive-input {CUTOFFS}"
NORMFORMER = "--scale-fc --scale-attn --scale-heads --scale-resids"
VARIANTS = {
    "base": "",
    "dropouts": "--dropout 0.3 --attention-dropout 0.2 --activation-dropout 0.1",
    "layerdrop": "--decoder-layerdrop 0.5",
    "quant noise": "--quant-noise-pq 0.3 --quant-noise-pq-block-size 4",
    "checkpointed": "--checkpoint-activations --dropout 0.2",
    "embedding norm": "--layernorm-embedding",
    "no final norm": "--no-decoder-final-norm",
    "one embedding": "--share-decoder-input-output-embed",
    "other input and output dimensions": "--decoder-input-dim 12 --decoder-output-dim 8",
    "adaptive": ADAPTIVE,
    "adaptive, tied": f"{ADAPTIVE} --tie-adaptive-weights --tie-adaptive-proj --adaptive-softmax-dropout 0.2",
    "characters": "--character-embeddings --character-filters [(1,8),(2,8)] --character-embedding-dim 4 "
    "--char-embedder-highway-layers 1",
    "gelu, learned positions": "--activation-fn gelu --decoder-learned-pos --no-scale-embedding",
    "pruned": "--decoder-layers-to-keep 1",
    **{flag: flag for flag in NORMFORMER.split()},
    "NormFormer": f"{NORMFORMER} --dropout 0.2",
}


def parse(arch, *flags):
    required = ["data", "--task=language_modeling", "--optimizer=adam", f"--arch={arch}"]
    parser = options.get_training_parser("language_modeling")
    return options.parse_args_and_arch(parser, [*required, *flags])


def build(arch, flags="", seed=1):
    """The model that fairseq-train builds from these flags; norms and factors are moved off their start."""
    args = parse(arch, *SMALL, *flags.split())
    torch.manual_seed(seed)
    model = ARCH_MODEL_REGISTRY[arch].build_model(args, Task())
    return off_the_start(model, seed)


def off_the_start(model, seed=1):
    """Vectors (norms, factors, biases) of 1 and 0 would hide that one is applied at the wrong place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def ours_plain(flags=""):
    return build("transformer_lm_rskip", f"--skip-type plain --kernels reference {flags}")


def batch():
    """Tokens (right-padded), as the language-modelling data sets give them."""
    tokens = torch.randint(4, 44, (3, 6), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = 2
    tokens[-1, -2:] = 1
    return tokens


def outputs(model):
    """Outputs of one step and gradients, dropout masks and dropped layers drawn with one seed."""
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002  (layerdrop draws from numpy's global generator)
    logits = model(batch())[0]
    if model.decoder.adaptive_softmax is None:
        logits = [logits]
    else:  # these are features: the adaptive softmax has logits for the head and for each tail
        logits, _ = model.decoder.adaptive_softmax(logits, batch().flip(1))
        assert len(logits) == 3
    sum(part.square().sum() for part in logits).backward()
    return logits, {name: p.grad for name, p in model.named_parameters()}


def assert_bit_equal(stock, ours, mode):
    assert list(stock.state_dict()) == list(ours.state_dict())
    assert [n for n, _ in stock.named_parameters()] == [n for n, _ in ours.named_parameters()]
    getattr(stock, mode)(), getattr(ours, mode)()
    logits, gradients = outputs(stock)
    our_logits, our_gradients = outputs(ours)
    assert all(torch.equal(*parts) for parts in zip(logits, our_logits, strict=True))
    assert any(gradient is not None and gradient.any() for gradient in gradients.values())
    for name, gradient in gradients.items():
        if gradient is None:
            assert our_gradients[name] is None, name
        else:
            assert torch.equal(gradient, our_gradients[name]), name


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_plain_skip_is_stock_to_the_last_bit(variant, mode):
    """Names, logits and gradients; the same seed also draws the same first parameters."""
    assert_bit_equal(build(STOCK, VARIANTS[variant]), ours_plain(VARIANTS[variant]), mode)


def build_bare(*flags):
    """fairseq's ``--arch transformer_lm``, which fills nothing in: Post-LN, all else by the dataclass's defaults."""
    flags = (*SMALL, "--decoder-input-dim=16", "--decoder-output-dim=16", *flags)
    cfg = convert_namespace_to_omegaconf(parse("transformer_lm", *flags)).model
    torch.manual_seed(1)
    return off_the_start(ARCH_MODEL_REGISTRY["transformer_lm"].build_model(cfg, Task()))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_plain_and_post_is_stocks_post_ln(mode):
    stock = build_bare("--dropout=0.3")
    assert stock.decoder.layer_norm is None
    assert_bit_equal(stock, ours_plain("--norm-placement post --dropout 0.3"), mode)


def test_character_embeddings_have_stocks_defaults():
    stock = build_bare("--decoder-normalize-before", "--character-embeddings")
    assert_bit_equal(stock, ours_plain("--character-embeddings"), "eval")


def test_a_stock_checkpoint_loads_and_gives_the_same():
    stock, ours = build(STOCK, seed=11), build("transformer_lm_rskip", "--skip-type plain", seed=12)
    ours.load_state_dict(stock.state_dict(), strict=True)
    stock.eval(), ours.eval()
    assert torch.equal(stock(batch())[0], ours(batch())[0])


@torch.no_grad()
@pytest.mark.parametrize(
    "flags",
    [
        "--skip-type plain",
        f"--skip-type plain {NORMFORMER}",
        "--skip-type plain --norm-placement sandwich --skip-norm rms",
        "--skip-type plain --norm-placement sub",
        "--skip-type plain --norm-placement res-post --skip-norm batch",
        "--skip-type expanded --skip-scale 0.5 --skip-norm none",
        "--skip-order 3",
        "--skip-type learned --skip-scale-vector --skip-norm power",
        "--skip-type rezero",
        "--skip-type deepnorm",
        "--skip-type admin",
        "--skip-type layerscale",
        "--skip-type b2t",
        "--skip-type dual",
        "--skip-type hyper",
        "--skip-type hyper-identity --mhc-start factory --mhc-end sigmoid",
        "--skip-type frac-dynamic",
        "--skip-type siamese --siamese-source paper",
        "--attention-type favor --favor-kernel hyperbolic",
    ],
)
def test_incremental_decoding_equals_the_full_pass(flags):
    """From the cache one position at a time: float64, but for fairseq's softmax over the cache, in float32."""
    model = build("transformer_lm_rskip", flags).double().eval()
    tokens = batch().masked_fill(batch().eq(1), 5)
    full, _ = model(tokens)
    state = {}
    steps = [model(tokens[:, : t + 1], incremental_state=state)[0] for t in range(tokens.size(1))]
    torch.testing.assert_close(torch.cat(steps, dim=1), full, rtol=0, atol=2e-6)


@pytest.mark.parametrize("skip", ["b2t", "dual", "hyper"])
def test_normformers_residual_factor_is_refused_where_the_skip_carries_more(skip):
    with pytest.raises(UserError, match=f"^--scale-resids has no meaning with --skip-type {skip}") as refused:
        build("transformer_lm_rskip", f"--skip-type {skip} --scale-resids")
    assert "\n" not in str(refused.value)
    build("transformer_lm_rskip", f"--skip-type {skip} --scale-fc --scale-attn --scale-heads")


@pytest.mark.parametrize(
    ("flags", "placement"),
    [
        ("--skip-type plain", "pre"),
        ("--skip-type expanded --skip-scale 2", "pre"),
        ("--skip-type learned", "pre"),
        ("--skip-type layerscale", "pre"),
        ("--skip-type rezero --skip-norm layer", "pre"),
        ("", "post"),  # recursive, and no other placement of a norm goes with it
        ("--skip-type b2t", "post"),
        ("--skip-type plain --skip-norm none", "post"),
        ("--skip-type plain --decoder-self-attn-skip-norm none", "post"),
        ("--skip-type rezero --decoder-self-attn-skip-norm layer --decoder-ffn-skip-norm layer", "pre"),
        ("--skip-type plain --norm-placement post", "post"),
        ("--skip-type plain --decoder-norm-placement post", "post"),
        ("--skip-type plain --norm-placement pre", "pre"),
        ("--skip-type plain --norm-placement res-post", "res-post"),
        ("--skip-type plain --norm-placement sandwich", "sandwich"),
        ("--skip-type learned --norm-placement sub", "sub"),
    ],
)
def test_placement(flags, placement):
    """Pre-LN, as fairseq's, wherever the skip type can be and no other placement is given."""
    model = build("transformer_lm_rskip", flags)
    connections = [module for module in model.modules() if isinstance(module, Connection)]
    assert len(connections) == 2 * 2
    names = {kind: name for name, kind in PLACEMENTS.items()}
    for connection in connections:  # some placements are subclasses of others
        assert next(names[kind] for kind in type(connection).__mro__ if kind in names) == placement
    assert (model.decoder.layer_norm is not None) == (placement != "post")


def test_a_placement_that_the_skip_type_cannot_have_is_refused():
    with pytest.raises(UserError, match=r"^--norm-placement pre does not go with --skip-type recursive"):
        build("transformer_lm_rskip", "--norm-placement pre")


@pytest.mark.parametrize("flag", ["--encoder-skip-type", "--decoder-cross-attn-skip-norm"])
def test_flags_of_what_it_has_not_do_not_exist(flag, capsys):
    with pytest.raises(SystemExit):
        parse("transformer_lm_rskip", f"{flag}=plain")
    assert flag in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--tie-adaptive-weights", "--tie-adaptive-weights needs --adaptive-input"),
        (f"{ADAPTIVE.replace('10,20', '5,20', 1)} --tie-adaptive-weights", "--tie-adaptive-weights: factor,"),
        ("--base-layers 1", "--base-layers: a BASE layer has its own connection"),
        (
            "--attention-type favor --decoder-attention-type softmax --favor-features 8",
            "--favor-features has no meaning where no attention is favor",
        ),
        ("--decoder-skip-type plain --skip-order 3", "--skip-order has no meaning with --skip-type plain"),
        (
            "--decoder-normalize-before",
            "--decoder-normalize-before: the chosen skip type, norms or placement",
        ),
        ("--skip-type dual --no-decoder-final-norm", "--no-decoder-final-norm with --skip-type dual"),
    ],
)
def test_what_cannot_work_is_refused(flags, message):
    with pytest.raises(UserError, match=f"^{message}") as refused:
        build("transformer_lm_rskip", flags)
    assert "\n" not in str(refused.value)


def test_residual_keeps_the_norm_that_wiki103_leaves_out():
    assert build("transformer_lm_rskip_wiki103", f"--skip-type dual {CUTOFFS}").decoder.layer_norm is not None


def test_presets():
    """fairseq's dimensions, all but the connection."""
    stock_of = {"gpt": "transformer_lm_gpt", "wiki103": "transformer_lm_baevski_wiki103"}
    assert LM_PRESETS.keys() == {f"transformer_lm_rskip{name}" for name in ("", "_tiny", "_gpt", "_wiki103")}
    for name in LM_PRESETS:
        loss = ADAPTIVE_LOSS if name.endswith("wiki103") else ()
        args = parse(name, *loss)
        assert (args.skip_type, args.skip_order) == ("recursive", 2)
        stock = stock_of.get(name.removeprefix("transformer_lm_rskip_"))
        if stock:
            expected = {**vars(parse(stock, *loss)), "arch": name, "decoder_normalize_before": False}
            assert {key: vars(args)[key] for key in expected} == expected
    assert parse("transformer_lm_rskip").decoder_embed_dim == 512
    tiny = parse("transformer_lm_rskip_tiny", "--decoder-layers=3")
    assert (tiny.decoder_embed_dim, tiny.decoder_input_dim, tiny.decoder_layers) == (128, 128, 3)
