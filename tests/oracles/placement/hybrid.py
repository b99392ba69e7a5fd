"""Zhuo et al. 2025: y = x + A(x) in attention, z + F(z) with z = N(y) in the feed-forward.

z is handed on by the last attention of a layer, since a sub-layer's skip starts from what it is handed.
"""


def wire(before, project, norm, slot, side):
    last_attention = {"encoder": "self_attn", "decoder": "cross_attn"}[side]
    return lambda x: project(before(x)), norm if slot == last_attention else lambda v: v
