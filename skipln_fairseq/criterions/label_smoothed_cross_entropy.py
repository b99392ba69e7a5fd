"""fairseq's label-smoothed cross-entropy in less time and memory."""

from fairseq.criterions import label_smoothed_cross_entropy as stock
from fairseq.criterions import register_criterion
from fairseq.models import BaseFairseqModel, FairseqDecoder
from fairseq.models.transformer import TransformerModelBase
from torch import Tensor

from ..nn.kernels.cross_entropy import cross_entropies_

__all__ = ["LabelSmoothedCrossEntropyCriterion"]

PLAIN = (
    FairseqDecoder.get_normalized_probs,
    FairseqDecoder.get_normalized_probs_scriptable,
    BaseFairseqModel.get_normalized_probs,
    BaseFairseqModel.get_normalized_probs_scriptable,
    TransformerModelBase.get_normalized_probs,
)


def normalises_logits(model) -> bool:
    """Whether the model's log-probabilities are fairseq's log-softmax of the first thing that it returns."""
    decoder = getattr(model, "decoder", None)
    if decoder is None or getattr(decoder, "adaptive_softmax", None) is not None:
        return False
    # methods and not classes are looked at: a wrapper for distributed training hands out its model's
    return all(
        getattr(getattr(owner, name, None), "__func__", None) in PLAIN
        for owner in (model, decoder)
        for name in ("get_normalized_probs", "get_normalized_probs_scriptable")
    )


@register_criterion(
    "fused_label_smoothed_cross_entropy", dataclass=stock.LabelSmoothedCrossEntropyCriterionConfig
)
class LabelSmoothedCrossEntropyCriterion(stock.LabelSmoothedCrossEntropyCriterion):
    """fairseq's ``label_smoothed_cross_entropy``: the same flags and numbers, no log-probabilities in memory.

    The gradient is written over the logits, so what a hook keeps of them has to be copied. A model with an adaptive
    softmax, or whose probabilities are not the softmax of its output, is given to fairseq's computation. The class has
    the name of fairseq's, by which a run is known that may be resumed: with either.
    """

    def get_lprobs_and_target(self, model, net_output, sample):
        """For such a model (rows, V) logits in the place of log-probabilities, whose largest is at the same word."""
        if not normalises_logits(model):
            return super().get_lprobs_and_target(model, net_output, sample)
        logits, target = net_output[0], model.get_targets(sample, net_output)
        if self.ignore_prefix_size:
            logits, target = logits[:, self.ignore_prefix_size :], target[:, self.ignore_prefix_size :]
        return logits.reshape(-1, logits.size(-1)), target.reshape(-1)

    def compute_loss(self, model, net_output, sample, reduce=True) -> tuple[Tensor, Tensor]:
        if not normalises_logits(model):
            return super().compute_loss(model, net_output, sample, reduce)
        logits, target = self.get_lprobs_and_target(model, net_output, sample)
        nll, every = (x[:, None] for x in cross_entropies_(logits, target, self.padding_idx))
        if reduce:
            nll, every = nll.sum(), every.sum()
        eps = self.eps / (logits.size(1) - 1)
        return (1 - self.eps - eps) * nll + eps * every, nll
