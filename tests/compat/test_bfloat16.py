"""``--cpu --bf16``: weights and activations in bfloat16; masters, and every sum over gradients, in float32."""

import functools

import pytest
import torch
import torch.nn.functional as F
from fairseq import options, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.trainer import Trainer
from torch import nn

from skipln_fairseq.compat import bfloat16
from skipln_fairseq.compat.bfloat16 import (
    CPUINFO,
    BF16Optimizer,
    multiplies_bfloat16,
    sum_gradients_in_single,
)
from skipln_fairseq.nn import EMBEDDINGS
from skipln_fairseq.nn.plain import is_plain
from skipln_fairseq.probe.watch import sub_layers
from tests.compat.test_torchrun import NO_DROPOUT, free_port
from tests.support.build import SMALL, batch, build, parse
from tests.support.commands import TRAIN, run, start, wait

KINDS = ("--bf16", "--memory-efficient-bf16")
PARTS = ("model", "last_optimizer_state")
SGD = ("--cpu", "--optimizer", "sgd", "--lr-scheduler", "fixed")


def train(data, folder, *flags, updates=None, **how):
    limit = [] if updates is None else [f"--max-update={updates}"]
    return run("fairseq-train", data, *TRAIN, *flags, *limit, "--save-dir", folder, **how)


def checkpoint(folder):
    return torch.load(folder / "checkpoint_last.pt", weights_only=True)


def assert_same(one, other):
    """Two checkpoints hold the same numbers, bit for bit."""
    flat, spec = torch.utils._pytree.tree_flatten([[state[part] for part in PARTS] for state in (one, other)])
    assert spec.children_specs[0] == spec.children_specs[1]
    half = len(flat) // 2
    for left, right in zip(flat[:half], flat[half:], strict=True):
        assert torch.equal(left, right) if torch.is_tensor(left) else left == right


def trainer(*flags):
    """A trainer of one weight, which is 1; its loss is the weight times what a batch says."""
    cfg = convert_namespace_to_omegaconf(parse("transformer_rskip", *SGD, *flags))
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    return Trainer(cfg, None, model, nn.Module())


def update(trainer, *slopes):
    """One update with the sum of these gradients; what the weight then is."""
    optimizer, (weight,) = trainer.optimizer, trainer.model.parameters()
    optimizer.zero_grad()
    for slope in slopes:
        optimizer.backward(weight.sum() * slope)
    optimizer.clip_grad_norm(0.0)
    optimizer.step()
    return weight.item()


@pytest.mark.parametrize("multiplies", [True, False])
def test_updates_below_the_resolution_add_up(multiplies, monkeypatch):
    """Near 1 bfloat16 has steps of 1/256, so that the weight itself would never move by 1/1024."""
    monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda cpuinfo: multiplies)
    exact = trainer("--bf16", "--lr", "1")
    assert [update(exact, 2**-10) for _ in range(16)][-1] == 1 - 16 * 2**-10
    assert exact.model.weight.dtype == (torch.bfloat16 if multiplies else torch.float32)


def test_without_masters_they_are_lost():
    """What fairseq's --memory-efficient-bf16 means."""
    rounded = trainer("--memory-efficient-bf16", "--optimizer", "adam", "--lr", "1e-4")
    assert {update(rounded, 1.0) for _ in range(16)} == {1.0}


def test_gradients_of_update_freq_add_up_in_single_precision():
    """256 + 1 is 256 in bfloat16."""
    exact = trainer("--bf16", "--lr", "1")
    update(exact, 256.0, 1.0)
    (master,) = exact.optimizer.fp32_params
    assert master.item() == 1 - 257
    assert exact.optimizer.clip_grad_norm(0.0).item() == 257
    update(exact, 1.0)
    assert master.item() == 1 - 257 - 1  # each update starts anew


def test_clipping_divides_the_masters_gradient():
    exact = trainer("--bf16", "--lr", "1")
    exact.optimizer.zero_grad()
    exact.optimizer.backward(exact.model.weight.sum() * 3)
    assert exact.optimizer.clip_grad_norm(0.75) == 3
    exact.optimizer.step()
    assert exact.optimizer.fp32_params[0].item() == pytest.approx(0.25, abs=1e-6)


SUMMED = """
import os, torch, torch.distributed as dist
import skipln_fairseq
from fairseq.distributed import LegacyDistributedDataParallel, ModuleProxyWrapper
from tests.compat.test_bfloat16 import trainer
dist.init_process_group("gloo")
one = trainer("--bf16")
model = ModuleProxyWrapper(LegacyDistributedDataParallel(one.get_model(), dist.group.WORLD))
one.optimizer.zero_grad()
one.optimizer.backward(model.weight.sum() * (1.0 if int(os.environ["RANK"]) else 256.0))
one.optimizer.all_reduce_grads(model)
one.optimizer.all_reduce_grads(torch.nn.Linear(1, 1))  # a criterion that is not wrapped
print("mean", one.optimizer.fp32_params[0].grad.item())
"""


def two_processes(folder, command, *arguments):
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    processes = []
    for rank in "01":
        (folder / rank).mkdir(exist_ok=True)
        mine = environment | {"RANK": rank, "LOCAL_RANK": rank}
        processes.append(start(folder / rank, command, *arguments, env=mine))
    return [wait(folder / rank, process) for rank, process in zip("01", processes, strict=True)]


def test_gradients_of_processes_add_up_in_single_precision(tmp_path):
    """(256 + 1) / 2 is 128 in bfloat16."""
    code = f"import sys; sys.path.insert(0, 'tests')\n{SUMMED}"
    for finished in two_processes(tmp_path, "-c", code):
        assert "mean 128.5" in finished.output


@pytest.mark.parametrize(
    "loads", [(), ("--load-checkpoint-on-all-dp-ranks",)], ids=["one loads", "both load"]
)
def test_two_processes_equal_one_with_update_freq_2_and_resume(tmp_path, data, loads):
    """A sum of two has no order, and halving is exact: the same numbers."""
    flags = ("--bf16", *NO_DROPOUT)
    alone = train(data, tmp_path / "one", *flags, "--update-freq=2")
    argv = (data, *TRAIN, *flags, "--save-dir", tmp_path / "two")
    first, _ = two_processes(tmp_path, "fairseq-train", *argv, "--max-update=3")
    rest, _ = two_processes(tmp_path, "fairseq-train", *argv, *loads)
    assert first.losses() + rest.losses() == alone.losses()
    assert len(alone.losses()) == 6
    assert_same(checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_uninterrupted_one(kind, data, tmp_path):
    whole = train(data, tmp_path / "whole", kind, updates=6)
    first = train(data, tmp_path / "resumed", kind, updates=3)
    rest = train(data, tmp_path / "resumed", kind, updates=6)
    assert first.losses() + rest.losses() == whole.losses()
    assert_same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "resumed"))


@pytest.fixture(scope="module")
def rounded(data, tmp_path_factory):
    """The folder of a run in bfloat16, and what it printed."""
    folder = tmp_path_factory.mktemp("bf16")
    return folder, train(data, folder, "--bf16")


def test_it_learns_as_single_precision_does(rounded, data, tmp_path):
    """Every loss is within 0.02 bits of what float32 gives, and it falls by more than one bit."""
    single = train(data, tmp_path, *NO_DROPOUT)
    half = train(data, tmp_path / "half", "--bf16", *NO_DROPOUT)
    (_, before), (_, after) = single.losses()[0], single.losses()[-1]
    assert float(before) - float(after) > 1
    for (_, expected), (_, found) in zip(single.losses(), half.losses(), strict=True):
        assert float(found) == pytest.approx(float(expected), abs=0.02)
    (valid,) = half.logged("valid")
    assert float(valid["valid_loss"]) == pytest.approx(
        float(single.logged("valid")[0]["valid_loss"]), abs=0.02
    )


def test_its_checkpoint_translates(rounded, data):
    folder, _ = rounded
    how = ("--path", folder / "checkpoint_last.pt", "--cpu", "--beam=1", "--max-len-b=5")
    assert len(run("fairseq-generate", data, *how).lines("H")) == 15
    weights = [weight for weight in checkpoint(folder)["model"].values() if weight.dim() > 1]
    rounded = all(torch.equal(weight, weight.bfloat16().float()) for weight in weights)
    assert rounded is multiplies_bfloat16(CPUINFO)


def test_a_command_that_neither_trains_nor_decodes_refuses_it_in_one_line(data):
    flags = ("--path", "nowhere.pt", "--task=translation", "--cpu", "--bf16")
    refused = run("fairseq-validate", data, *flags, succeeds=False).output
    assert refused.splitlines()[-1].startswith("skipln_fairseq: error: --bf16 is for training and decoding")
    assert "Traceback" not in refused


@pytest.mark.parametrize("back", [False, True], ids=["to bfloat16", "from bfloat16"])
def test_finetuning_may_change_the_precision(back, rounded, trained, data, tmp_path):
    """The first loss is far below that of a fresh model, which is above 9.5."""
    pretrained = rounded[0] / "checkpoint_last.pt" if back else trained.checkpoint
    kind = [] if back else ["--bf16"]
    tuned = train(data, tmp_path, *kind, "--finetune-from-model", pretrained, updates=2)
    assert float(tuned.losses()[0][1]) < 8.5
    state = checkpoint(tmp_path)["last_optimizer_state"]
    assert ("fp32_params" in state) is not back


@pytest.mark.parametrize(
    ("flags", "torch_xla", "tpu"),
    [
        ("--cpu --bf16", None, False),
        ("--cpu --memory-efficient-bf16", None, False),
        ("--bf16", None, False),
        ("--bf16", "installed", True),
        ("--cpu --bf16", "installed", False),
        ("--bf16 --tpu", None, True),
        ("--cpu", None, False),
    ],
)
def test_who_gets_a_tpu(flags, torch_xla, tpu, monkeypatch):
    monkeypatch.setattr(utils, "xm", torch_xla)
    argv = ["data", "--optimizer", "adam", "--arch", "transformer_rskip", *SMALL, *flags.split()]
    parser = options.get_training_parser()
    found = options.parse_args_and_arch(parser, argv)
    known, _ = options.parse_args_and_arch(options.get_training_parser(), argv, parse_known=True)
    assert found.tpu is known.tpu is tpu
    assert found.bf16 is ("bf16" in flags)


def test_without_the_flag_nothing_changes():
    model = build("transformer_rskip")
    Trainer(
        convert_namespace_to_omegaconf(parse("transformer_rskip", *SGD)), None, model, nn.Module()
    ).optimizer.zero_grad()
    assert not any("forward" in vars(module) for module in model.modules())


def test_gradients_over_tokens_add_up_in_single_precision(monkeypatch):
    """torch counts to 256."""
    monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda _: True)
    cfg = convert_namespace_to_omegaconf(parse("transformer_rskip", *SGD, "--bf16"))
    model = Trainer(cfg, None, build("transformer_rskip", "--skip-type=plain"), nn.Module()).model
    ones = torch.ones(4096, 16, dtype=torch.bfloat16)
    for embedded in (model.encoder.embed_tokens, model.decoder.embed_tokens):
        embedded(torch.full((4096,), 7)).backward(ones)
        assert embedded.weight.grad[7].eq(4096).all()
        assert embedded.weight.grad.count_nonzero() == 16
    norm = model.decoder.layers[0].final_layer_norm
    norm(ones, None).backward(ones)
    assert norm.bias.grad.eq(4096).all()


def test_gradients_of_word_vectors_of_length_one_add_up_in_single_precision():
    table = nn.Embedding(10, 4)
    EMBEDDINGS["fixnorm"]().apply(table)
    wide = table.bfloat16().weight.detach().float().requires_grad_()
    sum_gradients_in_single(table)
    table(torch.full((4096,), 7)).backward(torch.ones(4096, 4, dtype=torch.bfloat16))
    F.normalize(wide[7], dim=0).backward(torch.full((4,), 4096.0))
    error = table.weight.grad[7].float() - wide.grad[7]
    assert error.norm() < 0.02 * wide.grad[7].norm()  # torch counts to 256: it would be about 0.9


def test_layer_norm_and_embedding_are_the_same_functions():
    torch.manual_seed(3)
    norm = nn.LayerNorm(16, eps=0.5)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    table = nn.Embedding(10, 16, padding_idx=1)
    model = nn.ModuleList([norm, table, nn.Embedding(4, 16), nn.LayerNorm(3, elementwise_affine=False)])
    model.bfloat16()
    tokens, cotangent = torch.randint(0, 10, (40, 50)), torch.randn(40, 50, 16).bfloat16()
    wide, weight = (
        [value.detach().float().requires_grad_() for value in values]
        for values in ((norm.weight, norm.bias), (table.weight,))
    )
    expected = F.layer_norm(F.embedding(tokens, *weight, 1), (16,), *wide, norm.eps)
    expected.backward(cotangent.float())
    sum_gradients_in_single(model)
    found = norm(table(tokens))
    found.backward(cotangent)
    rounding = {"rtol": 2**-8, "atol": 0}
    torch.testing.assert_close(found.float(), expected, **rounding)
    for parameter, reference in zip((norm.weight, norm.bias), wide, strict=True):
        torch.testing.assert_close(parameter.grad.float(), reference.grad, **rounding)
    error = table.weight.grad.float() - weight[0].grad  # each of its summands was rounded by the norm
    assert error.norm() < 2**-8 * weight[0].grad.norm()
    assert table.weight.grad[1].eq(0).all()


def test_a_model_trains_through_every_replaced_part():
    model = build("transformer_rskip", "--skip-norm=layer").bfloat16()
    sum_gradients_in_single(model)
    source, lengths, target = batch()
    model(source, lengths, target)[0].float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("norm", ["layer", "layer-simple", "rms", "none"])
def test_kernels_go_on(norm, monkeypatch):
    """What is put in for the sums computes the same, so the leave-step stays one kernel and decoding one call."""
    monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda _: True)
    cfg = convert_namespace_to_omegaconf(parse("transformer_rskip", *SGD, "--bf16"))
    model = Trainer(
        cfg, None, build("transformer_rskip", "--skip-type=plain", f"--skip-norm={norm}"), nn.Module()
    ).model
    connections = sub_layers(model).values()
    assert all(one.one_piece(0.1) is not None for one in connections)
    assert is_plain(model.decoder.embed_tokens, nn.Embedding)
    # but who puts in something else is heard, even what passes for the old one
    connection = next(iter(connections))
    connection.forward = functools.wraps(connection.forward)(lambda v, padding_mask=None: 2 * v)
    assert connection.one_piece(0.1) is None


def test_criterions_normalise_in_single_precision():
    """Logits come in bfloat16, and ``exp`` of 9000 log-probabilities sums to 1 within float32's rounding."""
    torch.manual_seed(5)
    logits = torch.randn(3, 9000, dtype=torch.bfloat16)
    scores = build("transformer_rskip").get_normalized_probs((logits,), log_probs=True)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(3), rtol=0, atol=1e-4)


def test_the_optimizer_is_ours_only_there():
    assert isinstance(trainer("--bf16").optimizer, BF16Optimizer)
    assert not isinstance(trainer().optimizer, BF16Optimizer)
