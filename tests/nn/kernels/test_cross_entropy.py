"""The cross-entropies' kernel: its forms against fairseq's formula and one another."""

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss

from skipln_fairseq.nn.kernels.cross_entropy import blocks, cpu, cross_entropies_

PAD = 1
SINGLE = {"rtol": 1e-5, "atol": 1e-6}  # of single precision, in which fairseq computes whatever it is given


@pytest.fixture(params=["compiled", "one block", "blocks"])
def form(request, monkeypatch):
    """Also in blocks of fewer rows than there are, the last one smaller: 200 bytes are 4 rows of 11 floats."""
    if request.param == "compiled":
        if not cpu.fits(torch.empty(1, 1)):
            pytest.skip("no C compiler")
        return
    monkeypatch.setattr(cpu, "fits", lambda logits: False)
    monkeypatch.setitem(blocks.BLOCK_BYTES, "cpu", 2**19 if request.param == "one block" else 200)


@pytest.fixture(params=["one block", "blocks"])
def block_form(request, monkeypatch):
    """The forms that compute in double precision."""
    monkeypatch.setitem(blocks.BLOCK_BYTES, "cpu", 2**19 if request.param == "one block" else 200)


def draw(dtype=torch.float64, rows=7, words=11, scale=3):
    generator = torch.Generator().manual_seed(5)
    logits = (scale * torch.randn(rows, words, generator=generator, dtype=torch.float64)).to(dtype)
    target = torch.randint(2, words, (rows,), generator=generator)
    target[2], target[-1] = PAD, PAD
    return logits.requires_grad_(), target


@pytest.mark.parametrize("eps", [0, 0.1, 0.7])
@pytest.mark.parametrize("shift", [0, 1000])
def test_kernel_is_fairseqs_formula(eps, shift, block_form):
    logits, target = draw()
    eps_i = eps / (logits.size(1) - 1)
    for reduce in (True, False):
        nll, every = cross_entropies_(logits + shift, target, PAD)
        found = (1 - eps - eps_i) * nll + eps_i * every
        loss, expected_nll = label_smoothed_nll_loss(logits.log_softmax(-1), target, eps, PAD, reduce=reduce)
        if reduce:
            found, nll = found.sum(), nll.sum()
        else:
            loss, expected_nll = loss[:, 0], expected_nll[:, 0]
        # a logit of 1000 has absolute errors of 1e-13 itself
        tolerance = {"rtol": 1e-12, "atol": 1e-12 if shift == 0 else 1e-10}
        torch.testing.assert_close(found, loss, **tolerance)
        torch.testing.assert_close(nll, expected_nll, **tolerance)
        weights = torch.arange(found.numel(), dtype=torch.float64).view_as(found) + 1
        (of_found,) = torch.autograd.grad((found * weights).sum(), logits)
        (of_loss,) = torch.autograd.grad((loss * weights).sum(), logits)
        torch.testing.assert_close(of_found, of_loss, **tolerance)
        assert (of_found[target == PAD] == 0).all()


class Repeatable(torch.autograd.Function):
    """The kernel on a fresh graph for each backward pass, as gradcheck asks for several."""

    @staticmethod
    def forward(ctx, logits, target):
        ctx.save_for_backward(logits, target)
        return cross_entropies_(logits, target, PAD)

    @staticmethod
    def backward(ctx, *grads):
        logits, target = ctx.saved_tensors
        with torch.enable_grad():
            logits = logits.detach().requires_grad_()
            return *torch.autograd.grad(cross_entropies_(logits * 1, target, PAD), logits, grads), None


def test_kernel_gradients(block_form):
    assert torch.autograd.gradcheck(Repeatable.apply, draw())


@pytest.mark.parametrize(("rows", "words"), [(7, 11), (1, 1), (3, 16), (33, 1000), (5, 40_001), (0, 7)])
@pytest.mark.parametrize("threads", [1, 3])
def test_single_precision_is_double_precision_rounded(rows, words, threads, torch_threads, form):
    """Of any number of words, in rows that are shared among threads, also at logits far apart."""
    torch_threads(threads)
    generator = torch.Generator().manual_seed(words)
    logits = 30 * torch.randn(rows, words, generator=generator)
    target = torch.randint(0, words, (rows,), generator=generator)
    weights = torch.randn(2, rows, generator=generator)
    found = []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.detach().to(dtype).requires_grad_()
        nll, every = cross_entropies_(leaf * 1, target, words - 1)
        ((nll * weights[0]).sum() + (every * weights[1] / words).sum()).backward()
        found.append((nll, every / words, leaf.grad))
    for single, double in zip(*found, strict=True):
        torch.testing.assert_close(single, double.float(), rtol=2e-6, atol=2e-5)


def test_what_is_not_finite_stays_so(form):
    """A trainer skips such updates; a gradient that looked sound would do harm."""
    rows = torch.zeros(5, 20)
    rows[0, 3], rows[1, 3], rows[2, 3] = float("nan"), float("inf"), -float("inf")
    nll, every = cross_entropies_(rows.requires_grad_() * 1, torch.tensor([0, 0, 0, 3, 1]), 1)
    assert nll.isfinite().tolist() == [False, False, True, True, True]
    assert every.isfinite().tolist() == [False, False, False, True, True]
    nll.sum().backward()
    assert rows.grad[:2].isnan().any(1).all()
    assert rows.grad[2:].isfinite().all()
    assert rows.grad[2, 3] == 0


def test_rows_may_lie_apart(form):
    """Logits and targets that are no whole blocks of memory, and one gradient for all rows."""
    wide, targets = draw(torch.float32, words=22)[0].detach(), torch.arange(14) % 11
    found = []
    for arranged in (lambda x: x, torch.Tensor.contiguous):
        leaf = wide.clone().requires_grad_()
        nll, every = cross_entropies_(arranged((leaf * 1)[:, ::2]), arranged(targets[::2]), PAD)
        (nll.sum() + 2 * every.sum()).backward()
        found.append((nll, every, leaf.grad))
    for apart, whole in zip(*found, strict=True):
        assert torch.equal(apart, whole)


@pytest.mark.parametrize(
    "target", [torch.zeros(3, dtype=torch.int32), torch.zeros(2).long(), torch.zeros(3, 1).long()]
)
def test_targets_of_another_kind_are_refused(target, form):
    """Their memory would be read as something else."""
    with pytest.raises(ValueError, match=r"valid is long \(3,\)"):
        cross_entropies_(torch.zeros(3, 11), target, PAD)


@pytest.mark.parametrize(
    ("target", "rows"), [(11, 3), (-1, 3), (0, 2)], ids=["too large", "negative", "too few gradients"]
)
def test_the_backward_by_itself_writes_nowhere_else(target, rows, form):
    """As an operator of torch it can be called without the forward."""
    logits, ones = torch.zeros(3, 11), torch.ones(rows)
    backward = torch.ops.skipln.cross_entropies_backward_
    with pytest.raises((IndexError, RuntimeError, ValueError)):
        backward(logits, torch.tensor([0, target, 0]), PAD, ones, ones, ones)


def test_the_backward_by_itself_knows_rows_that_lie_apart(form):
    wide = draw(torch.float32, words=22)[0].detach()
    target, ones, backward = torch.arange(7), torch.ones(7), torch.ops.skipln.cross_entropies_backward_
    apart, together = wide.clone(), wide[:, ::2].contiguous()
    backward(apart[:, ::2], target, PAD, ones, ones, ones)
    backward(together, target, PAD, ones, ones, ones)
    torch.testing.assert_close(apart[:, ::2], together, rtol=1e-5, atol=1e-6)
    assert torch.equal(apart[:, 1::2], wide[:, 1::2])


@pytest.mark.parametrize("target", [-1, 11])
def test_a_target_that_is_no_word_is_refused(target, form):
    logits = torch.zeros(3, 11)
    with pytest.raises((IndexError, RuntimeError), match=f"{target} is out of"):
        cross_entropies_(logits, torch.tensor([0, target, 0]), PAD)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss_scale", [1.0, 1024.0])
def test_half_precision_is_single_precision_of_its_logits(dtype, loss_scale, form):
    """Losses as of single precision; the gradient rounded once, by half a unit in the last place."""
    logits, target = draw(dtype)
    exact = logits.detach().float().requires_grad_()
    expected, expected_nll = label_smoothed_nll_loss(exact.log_softmax(-1), target, 0.1, PAD)
    nll, every = cross_entropies_(logits * 1, target, PAD)
    assert nll.dtype == every.dtype == torch.float32
    torch.testing.assert_close(nll.sum(), expected_nll, **SINGLE)
    found = (1 - 0.1 - 0.1 / 10) * nll.sum() + 0.1 / 10 * every.sum()
    torch.testing.assert_close(found, expected, **SINGLE)
    (found * loss_scale).backward()
    (expected * loss_scale).backward()
    assert logits.grad.dtype == dtype
    # the smallest numbers of float16 are further apart than its unit says
    bound = (
        0.51 * torch.finfo(dtype).eps * exact.grad.abs()
        + torch.finfo(dtype).smallest_normal * 1e-3
        + 1e-6 * loss_scale
    )
    assert ((logits.grad.float() - exact.grad).abs() <= bound).all()


def test_the_gradient_takes_the_logits_memory_and_no_more(form):
    logits, target = draw(torch.float32)
    own = logits * 1
    nll, every = cross_entropies_(own, target, PAD)
    kept = own.detach()
    (gradient,) = torch.autograd.grad(nll.sum() + every.sum(), own)
    assert gradient.data_ptr() == kept.data_ptr()
    with torch.no_grad():
        before = own.clone()
        cross_entropies_(own, target, PAD)
    assert torch.equal(own, before)


def test_a_second_backward_pass_raises():
    logits, target = draw()
    nll, _ = cross_entropies_(logits * 1, target, PAD)
    nll.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        nll.sum().backward()


def test_another_operations_backward_pass_raises_where_it_needs_the_logits():
    logits, target = draw()
    own = logits.tanh()  # its gradient is computed of its output
    nll, _ = cross_entropies_(own, target, PAD)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        nll.sum().backward()


def test_logits_that_nobody_made_are_not_written_over():
    logits = torch.zeros(2, 5, requires_grad=True)
    with pytest.raises(ValueError, match="written over"):
        cross_entropies_(logits, torch.tensor([2, 3]), PAD)


def test_expanded_logits_and_losses_that_are_changed_in_place():
    row = torch.arange(5.0, requires_grad=True)
    nll, every = cross_entropies_((2 * row).expand(2, 5), torch.tensor([2, 3]), PAD)
    nll *= 2
    (nll.sum() + every.sum()).backward()
    again = torch.arange(5.0, requires_grad=True)
    lprobs = (2 * again).expand(2, 5).log_softmax(-1)
    (-2 * lprobs[[0, 1], [2, 3]].sum() - lprobs.sum()).backward()
    torch.testing.assert_close(row.grad, again.grad)
