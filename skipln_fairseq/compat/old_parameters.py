"""What old checkpoints call their parameters, where fairseq's own upgrade leaves something out.

Up to 0.8 attention over an encoder of another width had ``q_proj_weight``, ``k_proj_weight`` and ``v_proj_weight``
beside one bias for the three. Checkpoints of 0.6 have a norm after the decoder's last layer and say version 2, from
which fairseq concludes that there is none: it loads without an error and translates otherwise. Those of 0.12.2 hold a
copy of each encoder layer's matrices, which no other release knows.
"""

from typing import Any

import torch
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.modules import MultiheadAttention
from fairseq.modules.transformer_layer import TransformerEncoderLayerBase
from torch import Tensor

from skipln_fairseq.compat.patch import around

__all__ = ["apply"]

WITH_A_NORM_AT_THE_END = 3.0


def apply() -> None:
    """Complete ``upgrade_state_dict_named``, which fairseq calls before it copies parameters."""

    @around(MultiheadAttention, "upgrade_state_dict_named")
    def upgrade_attention(stock, self: MultiheadAttention, state: dict[str, Tensor], name: str) -> None:
        stock(self, state, name)
        prefix = f"{name}." if name else ""
        if f"{prefix}q_proj_weight" in state:
            for kind in "qkv":
                state[f"{prefix}{kind}_proj.weight"] = state.pop(f"{prefix}{kind}_proj_weight")
            if f"{prefix}in_proj_bias" in state:
                biases = state.pop(f"{prefix}in_proj_bias").chunk(3)
                state.update(zip((f"{prefix}{kind}_proj.bias" for kind in "qkv"), biases, strict=True))

    @around(TransformerEncoderLayerBase, "upgrade_state_dict_named")
    def upgrade_layer(stock, self: TransformerEncoderLayerBase, state: dict[str, Tensor], name: str) -> None:
        stock(self, state, name)
        for copy in ("in_proj", "out_proj", "fc1", "fc2"):
            for kind in ("weight", "bias"):
                state.pop(f"{name}.{copy}_{kind}", None)

    @around(TransformerDecoderBase, "upgrade_state_dict_named")
    def upgrade_decoder(stock, self: TransformerDecoderBase, state: dict[str, Tensor], name: str) -> Any:
        if f"{name}.layer_norm.weight" in state:
            state[f"{name}.version"] = torch.tensor([WITH_A_NORM_AT_THE_END])
        return stock(self, state, name)
