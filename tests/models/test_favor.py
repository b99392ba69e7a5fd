"""FAVOR+ attention in the models: decoding, redraws, checkpoints and flags."""

import copy

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator
from torch.nn import functional as F

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models import resume
from skipln_fairseq.models.attention import FavorAttention
from skipln_fairseq.nn.attention import Favor
from tests.support.build import assert_padding_never_leaks, batch, build
from tests.support.commands import TRAIN, run

FAVOR = {
    "self-attention": "--attention-type favor --favor-features 8",
    "all, hyperbolic": "--attention-type favor --cross-attention-type favor --favor-kernel hyperbolic",
    "decoder, ReLU": "--decoder-attention-type favor --favor-kernel relu --favor-features 12",
    "cross, with sub-LN": "--cross-attention-type favor --skip-type plain --norm-placement sub",
    "shared with BatchNorm": "--attention-type favor --skip-norm batch --no-favor-orthogonal",
}
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(params=FAVOR)
def model(request):
    """In float64: the features of large inputs are exponentials of large numbers, which single precision rounds."""
    return build("transformer_rskip", *FAVOR[request.param].split(), "--export").eval().double()


@torch.no_grad()
def test_incremental_decoding_equals_the_full_pass(model):
    source, lengths, target = batch()
    full = model(source, lengths, target)[0]
    encoder_out, state = model.encoder(source, lengths), {}
    for end in range(1, target.size(1) + 1):
        step = model.decoder(target[:, :end], encoder_out=encoder_out, incremental_state=state)[0]
        real = target[:, end - 1].ne(1)
        torch.testing.assert_close(step[real, -1], full[real, end - 1], **TOLERANCE)


@torch.no_grad()
def test_the_state_of_decoding_does_not_grow(model):
    source, lengths, _ = batch()
    encoder_out, state, sizes = model.encoder(source, lengths), {}, []
    for end in range(1, 9):
        model.decoder(torch.full((3, end), 7), encoder_out=encoder_out, incremental_state=state)
        favors = [m for m in model.decoder.modules() if isinstance(m, FavorAttention)]
        sizes.append(sum(v.numel() for m in favors for v in m._get_input_buffer(state).values()))
    assert len(set(sizes)) == 1


@torch.no_grad()
@pytest.mark.parametrize("beams_of_a_sentence", [1, 4])
def test_beam_search_scores_are_those_of_the_full_pass(model, beams_of_a_sentence):
    """Sums are reordered with their beams; told the beam size, the decoder keeps the encoder's once a sentence."""
    source, lengths, _ = batch()
    model.decoder.set_beam_size(beams_of_a_sentence)
    generator = SequenceGenerator(
        [model], model.decoder.dictionary, beam_size=4, max_len_b=6, normalize_scores=False
    )
    found = generator.generate([model], {"net_input": {"src_tokens": source, "src_lengths": lengths}})
    for row, hypotheses in enumerate(found):
        for hypothesis in hypotheses:
            tokens = hypothesis["tokens"]
            previous = torch.cat((torch.tensor([2]), tokens[:-1]))[None]
            alone = copy.deepcopy(model)
            alone.decoder.set_beam_size(1)
            logits = alone(source[row : row + 1], lengths[row : row + 1], previous)[0]
            expected = F.log_softmax(logits[0], -1).gather(1, tokens[:, None])[:, 0]
            torch.testing.assert_close(hypothesis["positional_scores"], expected.float(), **TOLERANCE)


@torch.no_grad()
def test_neither_padding_nor_later_tokens_change_anything(model):
    source, lengths, target = batch()
    together = model(source, lengths, target)[0]
    assert_padding_never_leaks(model, **TOLERANCE)
    changed = target.clone()
    changed[:, 4:] = 11
    assert torch.equal(model(source, lengths, changed)[0][:, :4], together[:, :4])


@torch.no_grad()
def test_scripted_saved_and_reloaded_equals_eager(model, tmp_path):
    torch.jit.script(model).save(str(tmp_path / "model.pt"))
    reloaded = torch.jit.load(str(tmp_path / "model.pt"))
    torch.testing.assert_close(reloaded(*batch())[0], model(*batch())[0], **TOLERANCE)


@pytest.mark.parametrize("name", FAVOR)
def test_every_parameter_learns_also_checkpointed(name):
    """Zero only for the key biases where a common factor of all keys cancels: they are the same for no other kernel."""
    gradients = []
    for flags in ([], ["--checkpoint-activations"]):
        model = build("transformer_rskip", *FAVOR[name].split(), "--dropout", "0.2", *flags).double()
        torch.manual_seed(4)
        model(*batch())[0].square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for parameter, gradient in gradients[0].items():
        assert gradient.isfinite().all(), parameter
        torch.testing.assert_close(gradients[1][parameter], gradient, rtol=0, atol=1e-7)
        if ".k_proj.bias" not in parameter and not (".bias" in parameter and "batch" in FAVOR[name]):
            assert gradient.abs().max() > 0, parameter


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", FAVOR)
@torch.no_grad()
def test_half_precision_is_finite_and_near_float32(name, dtype):
    """As for softmax attention: 64 units of the type's rounding."""
    model = build("transformer_rskip", *FAVOR[name].split()).eval()
    source, lengths, target = batch()
    expected = model(source, lengths, target)[0]
    low = model.to(dtype)(source, lengths, target)[0].float()
    bound = 64 * torch.finfo(dtype).eps * expected.abs().max().clamp(min=1)
    assert (low - expected).abs().max() <= bound


def projections(model):
    return [module.features.projection.clone() for module in model.modules() if isinstance(module, Favor)]


def test_layers_draw_apart_and_redraws_follow_from_the_updates():
    flags = ("--attention-type", "favor", "--favor-redraw-interval", "10")
    model, other = build("transformer_rskip", *flags, seed=1), build("transformer_rskip", *flags, seed=2)
    first = projections(model)
    assert len(first) == 4
    assert all(torch.equal(a, b) for a, b in zip(first, projections(other), strict=True))
    assert not any(torch.equal(first[0], drawn) for drawn in first[1:])
    model.set_num_updates(9)
    assert all(torch.equal(a, b) for a, b in zip(first, projections(model), strict=True))
    model.set_num_updates(10)
    second = projections(model)
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    model.eval()(*batch())
    other.load_state_dict(model.state_dict())
    other.set_num_updates(19)  # a resumed run
    assert all(torch.equal(a, b) for a, b in zip(second, projections(other), strict=True))
    third = build("transformer_rskip", *flags)
    third.load_state_dict(model.state_dict())
    third.set_num_updates(9)  # one that begins before the redraw
    assert all(torch.equal(a, b) for a, b in zip(first, projections(third), strict=True))


def test_a_model_that_is_built_for_inference_redraws_too():
    flags = ("--attention-type", "favor", "--favor-redraw-interval", "10")
    with torch.inference_mode():
        model = build("transformer_rskip", *flags)
        first = projections(model)
        model.set_num_updates(10)
        assert not any(torch.equal(a, b) for a, b in zip(first, projections(model), strict=True))


def test_parameters_are_softmaxs_and_its_checkpoint_starts_the_model():
    flags = ("--attention-type", "favor", "--cross-attention-type", "favor")
    soft, favor = build("transformer_rskip"), build("transformer_rskip", *flags, seed=2)
    names = [name for name, _ in soft.named_parameters()]
    assert [name for name, _ in favor.named_parameters()] == names
    assert (
        resume._changes(soft.args, favor.args)
        .connections[0]
        .startswith("encoder attention softmax → FavorConfig(")
    )
    state = {"model": soft.state_dict()}
    resume._adopt(state, favor, set())
    favor.load_state_dict(state["model"])
    for name, parameter in soft.named_parameters():
        assert torch.equal(favor.get_parameter(name), parameter)
    state = {"model": favor.state_dict()}
    resume._adopt(state, soft, set())
    soft.load_state_dict(state["model"])

    other = build("transformer_rskip", *flags, "--favor-seed", "2", "--favor-redraw-interval", "0")
    own, state = projections(other), {"model": favor.state_dict()}
    resume._adopt(state, other, set())
    other.load_state_dict(state["model"])
    assert all(torch.equal(a, b) for a, b in zip(own, projections(other), strict=True))


def test_a_resumed_run_equals_an_uninterrupted_one(data, tmp_path):
    """With a redraw at every second update; a checkpoint of softmax attention is refused, and taken to start from."""
    flags = (*TRAIN[:-4], "--log-format", "json", "--log-interval", "1", "--attention-type", "favor")
    flags += ("--favor-redraw-interval", "2", "--favor-features", "16", "--disable-validation")
    whole = run("fairseq-train", data, *flags, "--max-update", "4", "--save-dir", tmp_path / "whole").losses()
    first = run("fairseq-train", data, *flags, "--max-update", "3", "--save-dir", tmp_path / "parts").losses()
    rest = run("fairseq-train", data, *flags, "--max-update", "4", "--save-dir", tmp_path / "parts").losses()
    assert first + rest == whole
    last = tmp_path / "parts" / "checkpoint_last.pt"
    refused = run(
        *("fairseq-train", data, *TRAIN, "--max-update", "5", "--save-dir", tmp_path / "parts"),
        succeeds=False,
    )
    assert "encoder attention FavorConfig(" in refused.output.strip().splitlines()[-1]
    tuned = run(
        *("fairseq-train", data, *TRAIN, "--max-update", "1", "--finetune-from-model", last),
        *("--save-dir", tmp_path / "tuned"),
    )
    assert (
        "not taken from the checkpoint: decoder.layers.0.self_attn.favor.features.projection" in tuned.output
    )
    generated = run(
        *("fairseq-generate", data, "--path", last, "--cpu", "--gen-subset", "valid", "--max-len-b", "5"),
        *("--task", "translation"),
    )
    assert len(generated.lines("H")) == 12


REFUSED = {
    "--attention-type linear": "--attention-type linear: valid are softmax, favor",
    "--cross-attention-type x": "--cross-attention-type x: valid are softmax, favor",
    "--favor-features 8": "--favor-features has no meaning where no attention is favor",
    "--attention-type x --encoder-attention-type favor --decoder-attention-type softmax": "--attention-type x: valid",
    "--no-cross-attention --cross-attention-type favor": "--cross-attention-type has no meaning with --no-cross",
    "--attention-type favor --amp": "--amp does not go with favor attention: valid are single precision, --fp16",
    "--attention-type favor --favor-features 0": "--favor-features 0: valid is a whole number of at least 1",
    "--attention-type favor --favor-features -3": "--favor-features -3: valid is a whole number of at least 1",
    "--attention-type favor --favor-redraw-interval x": "--favor-redraw-interval x: valid is a whole number of at l",
    "--attention-type favor --favor-kernel rbf": "--favor-kernel rbf: valid are positive, hyperbolic,",
    "--attention-type favor --encoder-attention-heads 3": "--encoder-embed-dim 16 is not divisible by --enc",
    "--cross-attention-type favor --store-ema": "--store-ema does not go with favor attention",
    "--attention-type favor --cross-self-attention --no-cross-attention": "--cross-self-attention needs softmax",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_what_means_nothing_is_refused(flags, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # else --fp16 and --amp are refused as such
    with pytest.raises(UserError) as error:
        build("transformer_rskip", *flags.split())
    assert REFUSED[flags] in str(error.value)
    assert "\n" not in str(error.value)


def test_alignments_are_refused_where_there_are_no_weights():
    model = build("transformer_rskip", "--cross-attention-type", "favor")
    with pytest.raises(UserError, match="--print-alignment"):
        model.make_generation_fast_(need_attn=True)
    build("transformer_rskip", "--attention-type", "favor").make_generation_fast_(need_attn=True)
    with pytest.raises(UserError, match="no attention weights to align by"):
        build("transformer_align_rskip", "--cross-attention-type", "favor")
