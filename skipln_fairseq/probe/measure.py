"""One forward and backward pass of a model, as a list of readings."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from fairseq.modules import FairseqDropout, LayerDropModuleList
from torch import Tensor, nn

from .double import nothing_rounded
from .watch import SubLayer, sub_layers, watch

__all__ = ["Reading", "measure"]


@dataclass(frozen=True)
class Reading:
    """What was measured at one sub-layer; :data:`.watch.QUANTITIES` defines all but the last. None is what a sub-layer
    does not have. A number that is not finite was measured.

    Attributes:
        fc2_gradient_norm: ``‖∂loss/∂W₂‖_F`` of the layer's last feed-forward weight; None elsewhere than at ffn.
    """

    place: SubLayer
    activation_norm: float | None = None
    gradient_norm: float | None = None
    coefficient_ratio: float | None = None
    term_ratio: float | None = None
    effective_streams: float | None = None
    largest_stream: float | None = None
    stream_exchange: float | None = None
    fc2_gradient_norm: float | None = None


def _without_chance(model: nn.Module) -> None:
    """Training mode, in which norms over the batch take the batch's statistics, without dropout and layerdrop."""
    model.train()
    for module in model.modules():
        if isinstance(module, FairseqDropout | LayerDropModuleList):
            module.p = 0.0


def _fc2_gradient_norm(model: nn.Module, place: SubLayer) -> float | None:
    if place.slot != "ffn":
        return None
    weight = getattr(model, place.side).layers[place.layer].fc2.weight
    return None if weight.grad is None else weight.grad.double().norm().item()


def measure(model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> list[Reading]:
    """Run a model forward and backward once and read every sub-layer.

    In double precision: where x is scaled and no norm follows, scores grow so large that their rounding in single
    precision decides the softmax, and with it gradients by orders of magnitude.

    The model comes out changed: in double precision, in training mode without dropout and layerdrop, its ``.grad``
    filled, and with what a first training step measures (Admin's ω, statistics over the batch).

    Args:
        model: a model of this plugin.
        loss: from the model to the mean loss of a token, in nats.

    Returns:
        A reading of each sub-layer, encoder first.
    """
    values: dict[SubLayer, dict[str, float]] = defaultdict(dict)

    def report(place: SubLayer, quantity: str, value: Tensor) -> None:
        values[place][quantity] = value.item()

    _without_chance(model.double())
    model.zero_grad()
    handles = watch(model, report)
    try:
        with nothing_rounded():
            loss(model).backward()
    finally:
        for handle in handles:
            handle.remove()
    return [
        Reading(place, **values[place], fc2_gradient_norm=_fc2_gradient_norm(model, place))
        for place in sub_layers(model)
    ]
