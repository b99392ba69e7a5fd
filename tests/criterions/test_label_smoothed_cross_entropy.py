"""The fused criterion against fairseq's, in whole trainings too."""

import copy

import pytest
import torch
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.criterions import label_smoothed_cross_entropy as stock
from torch.nn import functional as F

from skipln_fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    normalises_logits,
)
from tests.support.build import ADAPTIVE_LOSS, Task, batch, build
from tests.support.commands import TRAIN, run

PAD = 1
FUSED = "fused_label_smoothed_cross_entropy"
SINGLE = {"rtol": 1e-5, "atol": 1e-6}  # of single precision, in which fairseq computes whatever it is given


def criteria(eps=0.1, prefix=0, accuracy=False, sentence_avg=False):
    kinds = (stock.LabelSmoothedCrossEntropyCriterion, LabelSmoothedCrossEntropyCriterion)
    return [kind(Task(), sentence_avg, eps, prefix, accuracy) for kind in kinds]


def sample():
    source, lengths, previous = batch()
    target = torch.cat((previous[:, 1:], torch.full((3, 1), 2)), 1)
    target[-1, -2:] = PAD
    return {
        "net_input": {"src_tokens": source, "src_lengths": lengths, "prev_output_tokens": previous},
        "target": target,
        "ntokens": int(target.ne(PAD).sum()),
    }


CRITERIA = {
    "smoothed": {},
    "not smoothed": {"eps": 0.0},
    "without a prefix": {"prefix": 2},
    "accuracy": {"accuracy": True},
    "accuracy without a prefix": {"accuracy": True, "prefix": 1},
    "of sentences": {"sentence_avg": True},
}


@pytest.mark.parametrize("arch", ["transformer", "transformer_rskip"])
@pytest.mark.parametrize("case", CRITERIA)
def test_criterion_is_fairseqs(case, arch):
    """Loss, sample size, all that is logged, and the gradients of all parameters."""
    model = build(arch, "--dropout", "0")
    assert normalises_logits(model)
    for reduce in (True, False):
        steps = []
        for criterion in criteria(**CRITERIA[case]):
            model.zero_grad()
            loss, size, logged = criterion(model, sample(), reduce=reduce)
            loss.sum().backward()
            steps.append(
                (loss.detach(), size, logged, {n: p.grad.clone() for n, p in model.named_parameters()})
            )
        stock, fused = steps
        assert stock[0].shape == fused[0].shape
        assert stock[2].keys() == fused[2].keys()
        for expected, found in zip(stock, fused, strict=True):
            torch.testing.assert_close(found, expected, **SINGLE)


@pytest.mark.parametrize("arch", ["transformer", "transformer_rskip"])
def test_models_of_other_probabilities_are_given_to_fairseqs_computation(arch):
    model = build(arch, "--dropout", "0", "--adaptive-softmax-cutoff", "10,20", *ADAPTIVE_LOSS)
    assert not normalises_logits(model)

    model = build(arch, "--dropout", "0")
    model.get_normalized_probs = lambda output, log_probs: F.log_softmax(output[0].float() / 2, -1)
    assert not normalises_logits(model)
    (expected, *_), (found, *_) = (criterion(model, sample()) for criterion in criteria())
    assert torch.equal(found, expected)

    class Warmer(type(model.decoder)):
        def get_normalized_probs(self, output, log_probs, sample=None):
            return F.log_softmax(output[0].float() / 2, -1)

    model = build(arch, "--dropout", "0")
    model.decoder.__class__ = Warmer
    assert not normalises_logits(model)
    (again, *_) = criteria()[1](model, sample())
    assert torch.equal(again, expected)


class Wrapper(torch.nn.Module):
    """As fairseq's wrappers for distributed training: what it has not, its module has."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


def test_a_wrapped_model_is_known():
    model = build("transformer_rskip", "--dropout", "0")
    assert normalises_logits(Wrapper(model))
    (expected, *_), (found, *_) = (criterion(Wrapper(model), sample()) for criterion in criteria())
    torch.testing.assert_close(found, expected, **SINGLE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_in_half_precision(dtype):
    """The loss is of the same logits; gradients within 2 units of the type's rounding of the largest."""
    model = build("transformer_rskip", "--dropout", "0").to(dtype)
    (stock, fused) = criteria()
    (expected, *_) = stock(model, sample())
    expected.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model = copy.deepcopy(model)
    model.zero_grad()
    (found, *_) = fused(model, sample())
    torch.testing.assert_close(found, expected, **SINGLE)
    found.backward()
    for name, parameter in model.named_parameters():
        bound = 2 * torch.finfo(dtype).eps * gradients[name].float().abs().max()
        if ".k_proj.bias" not in name:  # whose gradient is 0 but for rounding
            assert (parameter.grad.float() - gradients[name].float()).abs().max() <= bound, name


def test_fairseq_train_logs_the_same(tmp_path, data):
    assert CRITERION_REGISTRY[FUSED] is LabelSmoothedCrossEntropyCriterion
    flags = ("--label-smoothing=0.1", "--report-accuracy", "--max-update=2")
    logs = []
    for criterion in ("label_smoothed_cross_entropy", FUSED):
        saved = tmp_path / criterion
        logs.append(run("fairseq-train", data, *TRAIN, *flags, "--criterion", criterion, "--save-dir", saved))
    for kind, names in (
        ("train_inner", ("num_updates", "loss", "nll_loss", "accuracy", "gnorm")),
        ("valid", ("valid_loss", "valid_nll_loss", "valid_accuracy")),
    ):
        stock, fused = ([[entry[name] for name in names] for entry in log.logged(kind)] for log in logs)
        assert fused == stock
        assert len(stock) == (2 if kind == "train_inner" else 1)


def test_a_run_goes_on_with_the_other_criterion(data, tmp_path):
    flags = ("--label-smoothing", "0.1", "--save-dir", tmp_path, "--max-epoch")
    for epoch, criterion in enumerate(
        ("label_smoothed_cross_entropy", FUSED, "label_smoothed_cross_entropy"), 1
    ):
        done = run("fairseq-train", data, *TRAIN, "--criterion", criterion, *flags, epoch)
    assert "Loaded checkpoint" in done.output
    assert '"epoch": 3' in done.output
