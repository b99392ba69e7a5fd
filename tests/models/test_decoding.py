"""What decoding relies on: caches, beams and padding change nothing."""

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator

from tests.support.build import CONNECTIONS, assert_padding_never_leaks, batch, build_connection_model

TOLERANCE = {"rtol": 0, "atol": 2e-5}  # float32 logits of order 1 through 2 + 2 layers


@pytest.fixture(params=CONNECTIONS)
def model(request):
    return build_connection_model(request.param).eval()


def step_by_step(model, encoder_out, target):
    """Logits of every position, decoded one position at a time from the cache."""
    state, steps = {}, []
    for t in range(target.size(1)):
        logits, extra = model.decoder(target[:, : t + 1], encoder_out=encoder_out, incremental_state=state)
        steps.append(logits)
        if extra["attn"][0] is not None:  # over the source once, however often it has been attended to
            assert extra["attn"][0].shape == (len(target), 1, encoder_out["encoder_out"][0].size(0))
    return torch.cat(steps, dim=1), state


@torch.no_grad()
def test_incremental_decoding_equals_the_full_pass(model):
    source, lengths, target = batch()
    encoder_out = model.encoder(source, lengths)
    full, _ = model.decoder(target, encoder_out=encoder_out)
    incremental, _ = step_by_step(model, encoder_out, target)
    real = target.ne(1)
    torch.testing.assert_close(incremental[real], full[real], **TOLERANCE)


@torch.no_grad()
def test_cross_self_attention_decodes_incrementally():
    model = build_connection_model("rskip-2", "--cross-self-attention", "--no-cross-attention").eval()
    source, lengths, target = batch()
    target = target.masked_fill(target.eq(1), 5)
    encoder_out = model.encoder(source, lengths)
    full, _ = model.decoder(target, encoder_out=encoder_out)
    incremental, _ = step_by_step(model, encoder_out, target)
    torch.testing.assert_close(incremental, full, **TOLERANCE)


@torch.no_grad()
def test_beam_reorder_moves_every_cache(model):
    """Reordering hypotheses and going on equals decoding the reordered prefixes from scratch."""
    source, lengths, target = batch(sentences=1)
    source, lengths = source.expand(3, -1), lengths.expand(3)
    target = batch(seed=5)[2].masked_fill(batch(seed=5)[2].eq(1), 7)
    encoder_out = model.encoder(source, lengths)
    _, state = step_by_step(model, encoder_out, target)
    order = torch.tensor([2, 0, 0])
    model.decoder.reorder_incremental_state_scripting(state, order)
    reordered = model.encoder.reorder_encoder_out(encoder_out, order)
    extended = torch.cat((target[order], torch.full((3, 1), 9)), dim=1)
    logits, _ = model.decoder(extended, encoder_out=reordered, incremental_state=state)
    full, _ = model.decoder(extended, encoder_out=reordered)
    torch.testing.assert_close(logits[:, -1], full[:, -1], **TOLERANCE)


@torch.no_grad()
def test_padding_never_leaks(model):
    assert_padding_never_leaks(model, **TOLERANCE)


@torch.no_grad()
def test_later_target_tokens_change_no_earlier_logit(model):
    source, lengths, target = batch()
    changed = target.clone()
    changed[:, 4:] = 11
    before, after = model(source, lengths, target)[0], model(source, lengths, changed)[0]
    assert torch.equal(before[:, :4], after[:, :4])


@torch.no_grad()
@pytest.mark.parametrize("name", CONNECTIONS)
def test_training_and_evaluation_agree_without_dropout(name):
    model = build_connection_model(name, "--dropout", "0")
    training = model.train()(*batch())[0]
    torch.testing.assert_close(model.eval()(*batch())[0], training, **TOLERANCE)


@pytest.mark.parametrize("name", CONNECTIONS)
def test_checkpointed_activations_give_the_same_gradients(name):
    gradients = []
    for flags in ([], ["--checkpoint-activations"]):
        model = build_connection_model(name, "--dropout", "0.3", *flags).double()
        torch.manual_seed(4)
        model(*batch())[0].square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for parameter, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][parameter], gradient, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CONNECTIONS)
def test_every_parameter_learns(name):
    """Finite gradients everywhere; zero only for the key biases, to which softmax is blind."""
    model = build_connection_model(name)
    model(*batch())[0].square().sum().backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter
        if not parameter.endswith("k_proj.bias"):
            assert value.grad.abs().max() > 0, parameter


@torch.no_grad()
@pytest.mark.parametrize("name", CONNECTIONS)
def test_scripted_saved_and_reloaded_equals_eager(name, tmp_path):
    model = build_connection_model(name, "--export").eval()
    torch.jit.script(model).save(str(tmp_path / "model.pt"))
    reloaded = torch.jit.load(str(tmp_path / "model.pt"))
    expected = model(*batch())[0]
    for _ in range(3):  # the second and third call run the optimised graph
        torch.testing.assert_close(reloaded(*batch())[0], expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_beam_search_scripts_around_the_model(tmp_path):
    """fairseq's own generator, scripted, saved and reloaded with our model and its caches inside."""
    model = build_connection_model("rskip-2", "--export").eval()
    source, lengths, _ = batch()
    sample = {"net_input": {"src_tokens": source, "src_lengths": lengths}}
    generator = SequenceGenerator([model], model.decoder.dictionary, beam_size=2, max_len_b=6)
    torch.jit.script(generator).save(str(tmp_path / "generator.pt"))
    reloaded = torch.jit.load(str(tmp_path / "generator.pt"))
    for ours, theirs in zip(generator(sample), reloaded(sample), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a["tokens"].tolist() == b["tokens"].tolist()
            torch.testing.assert_close(a["score"], b["score"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CONNECTIONS)
@torch.no_grad()
def test_half_precision_is_finite_and_near_float32(name, dtype):
    """2 + 2 layers round a few hundred times: 64 units of the type's rounding on logits of order 1."""
    model = build_connection_model(name).eval()
    source, lengths, target = batch()
    expected = model(source, lengths, target)[0]
    low = model.to(dtype)(source, lengths, target)[0].float()
    assert low.isfinite().all()
    bound = 64 * torch.finfo(dtype).eps * expected.abs().max().clamp(min=1)
    assert (low - expected).abs().max() <= bound


def test_the_fused_encoder_layer_of_fairseq_0_12_2_stays_off():
    """That release asks each layer for this attribute, and then leaves the connections out."""
    model = build_connection_model("rskip-2")
    model.load_state_dict(model.state_dict())
    assert [layer.can_use_fastpath for layer in model.encoder.layers] == [False, False]
