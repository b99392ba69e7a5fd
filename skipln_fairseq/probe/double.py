"""Numbers of double precision, also where fairseq or torch would round them."""

from collections.abc import Iterator
from contextlib import contextmanager

from fairseq import utils
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["nothing_rounded"]


@contextmanager
def nothing_rounded() -> Iterator[None]:
    """Softmaxes in the type of their input, where fairseq's are in single precision, and attention step by step: the
    backward pass of torch's fused form computes the softmax again from the scores and their log-sum-exp, which loses
    large scores even in double precision.
    """
    of_fairseq = utils.softmax, utils.log_softmax
    utils.softmax, utils.log_softmax = _softmax, _log_softmax
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        utils.softmax, utils.log_softmax = of_fairseq


def _softmax(x: Tensor, dim: int, onnx_trace: bool = False) -> Tensor:
    return F.softmax(x, dim)


def _log_softmax(x: Tensor, dim: int, onnx_trace: bool = False) -> Tensor:
    return F.log_softmax(x, dim)
