"""The recursive skip as one would write it first, in fairseq's own layers: kept for comparison only."""

from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import TransformerModel, base_architecture
from torch import Tensor, nn

__all__ = ["NaiveModel", "NaiveRecursion"]


class NaiveRecursion(nn.Module):
    """``y_k = LN_k(x + y_{k−1})``, k = 1 … K, from ``y_0 = F(x)``: one torch module after another.

    Args:
        dim: the feature dimension.
        order: K, at least 1.
    """

    def __init__(self, dim: int, order: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(order))

    def forward(self, branch_and_input: tuple[Tensor, Tensor]) -> Tensor:
        """F(x) and x, each (…, dim), to (…, dim)."""
        y, x = branch_and_input
        for norm in self.norms:
            y = norm(x + y)
        return y


def _pair(f_x: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return f_x, x


@register_model("transformer_naive_rskip")
class NaiveModel(TransformerModel):
    """fairseq's ``transformer``, whose layers hand F(x) and x to a :class:`NaiveRecursion` instead of their sum.

    Everything else, dropout included, is the stock layers' code. Post-LN only.
    """

    @classmethod
    def add_args(cls, parser) -> None:
        super().add_args(parser)
        parser.add_argument("--skip-order", type=int, metavar="K", help="order of the naive recursive skip")

    @classmethod
    def build_model(cls, args, task) -> "NaiveModel":
        model = super().build_model(args, task)
        for layer in (*model.encoder.layers, *model.decoder.layers):
            layer.residual_connection = _pair
            for name in ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"):
                if hasattr(layer, name):
                    setattr(layer, name, NaiveRecursion(layer.embed_dim, args.skip_order))
        return model


@register_model_architecture("transformer_naive_rskip", "transformer_naive_rskip")
def _naive_architecture(args) -> None:
    args.skip_order = getattr(args, "skip_order", 2)
    base_architecture(args)
