"""Cross-entropy of images' classes, with the share that is right."""

import math
from dataclasses import dataclass, field

import torch
from fairseq import metrics
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from torch.nn import functional as F

from ..common.errors import UserError
from .ranks import ranked
from .task import ImageClassificationTask

__all__ = ["ImageCrossEntropy"]

TOP = (1, 5)


@dataclass
class ImageCrossEntropyConfig(FairseqDataclass):
    """Flags."""

    label_smoothing: float = field(
        default=0.0, metadata={"help": "share of the target that all classes have, 0 to 1"}
    )


@register_criterion("image_cross_entropy", dataclass=ImageCrossEntropyConfig)
class ImageCrossEntropy(FairseqCriterion):
    """``(1 − ε)(−log p_target) + ε mean(−log p)``, in bits; top-1 and top-5 accuracy in percent.

    Where there are fewer than five classes, all are in the top five.
    """

    def __init__(self, task, label_smoothing: float):
        super().__init__(task)
        if not isinstance(task, ImageClassificationTask):
            raise UserError("--criterion image_cross_entropy is for --task image_classification")
        if not 0 <= label_smoothing < 1:
            raise UserError(f"--label-smoothing {label_smoothing}: valid is from 0 to below 1")
        self.label_smoothing = label_smoothing

    def forward(self, model, sample, reduce=True):
        """The summed loss, the number of images, and what is logged."""
        logits, target = model(**sample["net_input"]).float(), sample["target"]
        reduction = "sum" if reduce else "none"
        loss = F.cross_entropy(logits, target, reduction=reduction, label_smoothing=self.label_smoothing)
        with torch.no_grad():
            nll = F.cross_entropy(logits, target, reduction="sum")
            ranks = ranked(logits, target)
        output = {
            "loss": loss.data.sum(),
            "nll_loss": nll,
            "ntokens": len(target),
            "nsentences": len(target),
            "sample_size": len(target),
            **{f"top{k}": (ranks <= k).sum() for k in TOP},
        }
        return loss, len(target), output

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Add up what several workers logged."""
        sums = {
            name: sum(output.get(name, 0) for output in logging_outputs)
            for name in ("loss", "nll_loss", "sample_size", *(f"top{k}" for k in TOP))
        }
        size = sums["sample_size"]
        for name in ("loss", "nll_loss"):
            metrics.log_scalar(name, sums[name] / size / math.log(2), size, round=3)
        for k in TOP:
            metrics.log_scalar(f"top{k}", 100 * sums[f"top{k}"] / size, size, round=2)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True
