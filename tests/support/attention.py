"""fairseq's attention and the fast form of it: masks, inputs, a step of both."""

import copy

import torch
from fairseq.modules import MultiheadAttention

from skipln_fairseq.models.fast_attention import FastAttention
from skipln_fairseq.nn.attention import softmax

TIME, KEYS, BATCH, DIM, HEADS = 7, 5, 3, 16, 2
EXACT = {"rtol": 0, "atol": 1e-12}  # of float64, where only the order of sums differs
SINGLE = {
    "rtol": 0,
    "atol": 1e-5,
}  # where fairseq's softmax is its own, which is of single precision whatever it is given

RIGHT = torch.arange(TIME) >= torch.tensor([[TIME], [4], [2]])
LEFT = RIGHT.flip(1)
MEMORY = torch.arange(KEYS) < torch.tensor([[2], [0], [4]])
CAUSAL = torch.full((TIME, TIME), -torch.inf).triu(1)
MASKED = torch.randn(TIME, TIME, generator=torch.Generator().manual_seed(9))

# padding mask and additive mask
CASES = {
    "plain": (None, None),
    "padded on the right": (RIGHT, None),
    "padded on the left": (LEFT, None),
    "causal": (None, CAUSAL),
    "causal, padded on the right": (RIGHT, CAUSAL),
    "causal, padded on the left": (LEFT, CAUSAL),
    "a mask of its own": (None, MASKED),
    "a mask of its own, padded": (LEFT, MASKED),
    "to the encoder": (None, None),
    "to the encoder, padded": (MEMORY, None),
}


def pair(dtype=torch.float64, **kinds):
    """fairseq's attention and the fast form of a copy."""
    torch.manual_seed(1)
    stock = MultiheadAttention(DIM, HEADS, **(kinds or {"self_attention": True}))
    for parameter in stock.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    stock = stock.to(dtype)
    return stock, FastAttention.take(copy.deepcopy(stock))


def inputs(dtype=torch.float64, keys=TIME, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(size, BATCH, DIM, generator=generator).to(dtype) for size in (TIME, keys))


def step(attention, case, dtype=torch.float64, **more):
    """Output and gradients of a step in which padded queries, where queries are padded, do not count."""
    padding, mask = CASES[case]
    to_encoder = case.startswith("to the encoder")
    x, memory = inputs(dtype, KEYS if to_encoder else TIME)
    x.requires_grad_()
    memory.requires_grad_()
    keys = memory if to_encoder else x
    out, weights = attention(
        *(x, keys, keys),
        key_padding_mask=padding,
        attn_mask=None if mask is None else mask.to(dtype),
        static_kv=to_encoder,
        **{"need_weights": False, **more},
    )
    real = out if padding is None or to_encoder else out[~padding.t()]
    attention.zero_grad()
    real.float().sin().sum().backward()
    gradients = {name: p.grad.clone() for name, p in attention.named_parameters()}
    gradients["x"] = x.grad
    if to_encoder:
        gradients["memory"] = memory.grad
    return {"out": real.detach(), **gradients}, weights


def kind(case):
    return {"encoder_decoder_attention" if case.startswith("to the encoder") else "self_attention": True}


def forms(fused, monkeypatch):
    """Take torch's fused form for float64, or the one that is written out."""
    monkeypatch.setattr(softmax, "HALF", () if fused else (torch.float64, torch.float32))
