"""With the plain skip the reference path is fairseq's ``transformer``: names, outputs, gradients, to the last bit."""

import numpy as np
import pytest
import torch

from tests.support.build import ADAPTIVE_LOSS, batch, build

VARIANTS = {
    "post": "",
    "pre": "--encoder-normalize-before --decoder-normalize-before",
    "pre encoder, post decoder": "--encoder-normalize-before",
    "no final decoder norm": "--decoder-normalize-before --no-decoder-final-norm",
    "dropouts": "--dropout 0.3 --attention-dropout 0.2 --activation-dropout 0.1",
    "layerdrop": "--encoder-layerdrop 0.5 --decoder-layerdrop 0.5",
    "quant noise": "--quant-noise-pq 0.3 --quant-noise-pq-block-size 4",
    "checkpointed": "--checkpoint-activations --dropout 0.2",
    "adaptive softmax": " ".join(("--adaptive-softmax-cutoff 10,20", *ADAPTIVE_LOSS)),
    "cross-self-attention": "--cross-self-attention --no-cross-attention",
    "no cross-attention": "--no-cross-attention",
    "embedding norm": "--layernorm-embedding",
    "one embedding": "--share-all-embeddings",
    "export": "--export",
    "gelu, learned positions": "--activation-fn gelu --encoder-learned-pos --decoder-learned-pos",
}


def both(flags):
    flags = flags.split()
    ours = build("transformer_rskip", "--skip-type", "plain", "--kernels", "reference", *flags)
    return build("transformer", *flags), ours


def outputs(model, seed=7):
    """Features and gradients of one step, dropout masks and dropped layers drawn with ``seed``."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (layerdrop draws from numpy's global generator)
    features, _ = model(*batch(), features_only=True)
    if features.requires_grad:
        features.square().sum().backward()
    return features, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_names_outputs_and_gradients_are_bit_equal(variant, mode):
    stock, ours = both(VARIANTS[variant])
    assert list(stock.state_dict()) == list(ours.state_dict())
    assert [n for n, _ in stock.named_parameters()] == [n for n, _ in ours.named_parameters()]
    getattr(stock, mode)(), getattr(ours, mode)()

    features, gradients = outputs(stock)
    our_features, our_gradients = outputs(ours)
    assert torch.equal(features, our_features)
    for name, gradient in gradients.items():
        if gradient is None:
            assert our_gradients[name] is None, name
        else:
            assert torch.equal(gradient, our_gradients[name]), name


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_logits_are_bit_equal(mode):
    stock, ours = both("--dropout 0.3")
    getattr(stock, mode)(), getattr(ours, mode)()
    torch.manual_seed(2)
    logits, _ = stock(*batch())
    torch.manual_seed(2)
    assert torch.equal(logits, ours(*batch())[0])


def test_alignment_model_is_bit_equal():
    flags = ("--alignment-layer", "1", "--alignment-heads", "1", "--full-context-alignment")
    stock = build("transformer_align", *flags)
    ours = build("transformer_align_rskip", "--skip-type", "plain", "--kernels", "reference", *flags)
    ours.load_state_dict(stock.state_dict())
    stock.eval(), ours.eval()
    (logits, extra), (our_logits, our_extra) = stock(*batch()), ours(*batch())
    assert torch.equal(logits, our_logits)
    assert torch.equal(extra["attn"][0], our_extra["attn"][0])


@pytest.mark.parametrize("flags", [["--skip-type", "plain"], ["--skip-order", "1"]])
def test_a_stock_checkpoint_loads_and_gives_the_same(flags):
    stock = build("transformer", seed=11)
    ours = build("transformer_rskip", "--kernels", "reference", *flags, seed=12)
    ours.load_state_dict(stock.state_dict(), strict=True)
    stock.eval(), ours.eval()
    assert torch.equal(stock(*batch())[0], ours(*batch())[0])


def test_recursion_of_order_one_is_plain_bit_for_bit():
    plain = build("transformer_rskip", "--skip-type", "plain", "--dropout", "0.2")
    first = build("transformer_rskip", "--skip-order", "1", "--dropout", "0.2")
    assert list(plain.state_dict()) == list(first.state_dict())
    features, gradients = outputs(plain)
    our_features, our_gradients = outputs(first)
    assert torch.equal(features, our_features)
    assert all(torch.equal(g, our_gradients[name]) for name, g in gradients.items() if g is not None)


def test_a_stock_checkpoint_is_pruned_to_the_kept_layers():
    """Stock itself dies on this flag: its parser makes a list, its model splits a string."""
    stock = build("transformer", seed=11)
    ours = build(
        "transformer_rskip",
        "--skip-type",
        "plain",
        "--encoder-layers-to-keep",
        "1",
        "--decoder-layers-to-keep",
        "0",
    )
    ours.load_state_dict(stock.state_dict(), strict=True, model_cfg=ours.args)
    assert len(ours.encoder.layers) == 1
    assert torch.equal(ours.encoder.layers[0].fc1.weight, stock.encoder.layers[1].fc1.weight)


def test_retained_dropout_is_named_as_in_stock():
    """`--retain-dropout-modules` selects by class name; users and papers know stock's."""

    def names(model):
        return {path: m.module_name for path, m in model.named_modules() if hasattr(m, "module_name")}

    stock, ours = both("")
    assert names(stock) == names(ours)
