"""Forms of word vectors against their oracles, and in whole models."""

from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch
from torch import nn

from skipln_fairseq import to_ctranslate2
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.models import engine, reading, resume
from skipln_fairseq.models.export import empty_cache, export_encoder, export_step
from skipln_fairseq.nn import EMBEDDINGS
from tests.models import test_language_model as language
from tests.support.build import ADAPTIVE_LOSS, assert_padding_never_leaks, batch, build, parse

SHARED = {
    "all": ["--share-all-embeddings"],
    "decoder": ["--share-decoder-input-output-embed"],
    "none": [],
}
FIXNORM = ["--embedding-norm", "fixnorm"]
MEANT = [
    *FIXNORM,
    "--skip-type",
    "plain",
    "--norm-placement",
    "pre",
    "--skip-norm",
    "scale",
    "--dropout",
    "0",
]
"""As the paper has it."""


def oracle(name):
    return import_module(f"tests.oracles.embedding.{name}").vectors


def tables(model):
    """Each table once."""
    found = [getattr(model, side).embed_tokens for side in ("encoder", "decoder") if hasattr(model, side)]
    return list({id(one.weight): one.weight for one in (*found, model.decoder.output_projection)}.values())


def made(name, *flags, **how):
    return build("transformer_rskip", "--embedding-norm", name, "--dropout", "0", *flags, **how)


def test_each_has_an_oracle_and_the_reverse():
    folder = import_module("tests.oracles.embedding").__path__
    assert {module.name for module in iter_modules(folder)} == {name.replace("-", "_") for name in EMBEDDINGS}


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_a_model_is_the_plain_one_of_the_oracles_vectors(name, shared):
    """Names of parameters, what is read, logits, and what stands between."""
    model, plain = made(name, *SHARED[shared]).double(), made("none", *SHARED[shared]).double()
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert len(tables(model)) == {"all": 1, "decoder": 2, "none": 3}[shared]
    with torch.no_grad():
        for table in tables(model):
            table[2:].mul_(0.5 + 9 * torch.rand(len(table) - 2, 1))
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        for table in tables(plain):
            padding = table.abs().sum(1) == 0
            assert padding.nonzero().flatten().tolist() in ([], [1])
            table[~padding] = torch.from_numpy(oracle(name)(table[~padding].numpy()))
    found, expected = (one.eval()(*batch())[0] for one in (model, plain))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)  # softmax is in single precision
    words = torch.tensor([[4, 7, 1]])
    for side in ("encoder", "decoder"):
        ours, theirs = (getattr(one, side).embed_tokens(words) for one in (model, plain))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    torch.testing.assert_close(
        model.decoder.output_layer(x), plain.decoder.output_layer(x), rtol=1e-12, atol=1e-14
    )


def test_fixnorm_with_other_lengths_is_the_same_model():
    model = made("fixnorm").eval()
    before = model(*batch())[0]
    assert not torch.allclose(before, made("none").eval()(*batch())[0], atol=1e-2)
    with torch.no_grad():
        for table in tables(model):
            table.mul_(0.1 + torch.rand(len(table), 1))
    torch.testing.assert_close(model(*batch())[0], before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared", SHARED)
def test_fixnorms_first_weights_are_the_papers(shared):
    model = made("fixnorm", *SHARED[shared], "--encoder-embed-dim", "256", "--decoder-embed-dim", "256")
    for table in tables(model):
        words = table.detach()[table.detach().abs().sum(1) > 0]
        assert len(words) >= len(table) - 1
        assert words.abs().max() <= 0.01
        assert words.std().item() == pytest.approx(0.01 / 3**0.5, rel=0.03)
        assert words.mean().abs() < 3e-4
    for side in (model.encoder, model.decoder):
        assert not side.embed_tokens.weight[1].any()


def test_fixnorm_keeps_what_was_read_from_a_file(tmp_path):
    file = tmp_path / "vectors.txt"
    file.write_text("1 16\nw3 " + " ".join(["3"] * 16) + "\n")
    model = made("fixnorm", "--encoder-embed-path", str(file))
    assert torch.equal(model.encoder.embed_tokens.weight[7], torch.full((16,), 3.0))
    assert model.encoder.embed_tokens.weight.abs().mean() > 0.05
    assert model.decoder.embed_tokens.weight.abs().max() <= 0.01
    torch.testing.assert_close(model.encoder.embed_tokens(torch.tensor([7])), torch.full((1, 16), 0.25))


def modules():
    embedding, output = nn.Embedding(5, 4, padding_idx=1), nn.Linear(4, 5, bias=False)
    for one in (embedding, output):
        EMBEDDINGS["fixnorm"]().apply(one)
    return embedding, output


def test_fixnorms_gradients_are_right():
    embedding, output = modules()
    words, x = torch.tensor([[0, 2, 2, 4]]), torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    table = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)

    def read(weight):
        return torch.func.functional_call(embedding, {"weight": weight}, (words,))

    def logits(weight, x):
        return torch.func.functional_call(output, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(read, table)
    assert torch.autograd.gradcheck(logits, (table, x))


def test_a_row_of_zeros_stays_one_and_has_finite_gradients():
    embedding, output = modules()
    with torch.no_grad():
        output.weight[1] = 0
    assert not embedding(torch.tensor([1])).any()
    products = output(torch.ones(2, 4))
    products.sum().backward()
    assert not products[:, 1].any()
    assert torch.equal(output.weight.grad[1], torch.full((4,), 2.0))
    assert output.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (torch.nn.Linear(4, 3), "without a bias"),
        (torch.nn.Embedding(3, 4, max_norm=1.0), "without max_norm"),
        (torch.nn.Embedding(3, 4, sparse=True), "without max_norm"),
    ],
)
def test_tables_of_whose_settings_it_would_drop_one_are_refused(table, message):
    before = type(table)
    with pytest.raises(ValueError, match=message):
        EMBEDDINGS["fixnorm"]().apply(table)
    assert type(table) is before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fixnorm_of_the_first_weights_in_half_precision(dtype):
    embedding, output = modules()
    for one in (embedding, output):
        EMBEDDINGS["fixnorm"]().first(one.weight, None)
    x, words = torch.randn(3, 4), torch.arange(5)
    found = embedding.to(dtype)(words).float(), output.to(dtype)(x.to(dtype)).float()
    rounded = [nn.functional.normalize(one.weight.detach().double()) for one in (embedding, output)]
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found[0].double(), rounded[0], rtol=2 * eps, atol=2 * eps)
    expected = x.to(dtype).double() @ rounded[1].T
    torch.testing.assert_close(found[1].double(), expected, rtol=2 * eps, atol=4 * eps)


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("shared", SHARED)
def test_a_model_as_the_paper_means_it_decodes_scripts_and_learns(shared, kernels):
    torch.manual_seed(0)
    model = build("transformer_rskip", *MEANT, *SHARED[shared], "--kernels", kernels)
    source, lengths, target = batch()
    model(source, lengths, target)[0].logsumexp(-1).sum().backward()
    assert all(table.grad.abs().max() > 0 for table in tables(model))
    model.eval()
    with torch.no_grad():
        full = model(source, lengths, target)[0]
        scripted = torch.jit.script(model)(source, lengths, target)[0]
        torch.testing.assert_close(scripted, full, rtol=1e-4, atol=1e-5)
        assert_padding_never_leaks(model, rtol=1e-4, atol=1e-5)
        model.make_generation_fast_()
        encoder_out, state = model.encoder(source, lengths), {}
        for end in range(1, target.size(1) + 1):
            step = model.decoder(target[:, :end], encoder_out=encoder_out, incremental_state=state)[0]
            real = target[:, end - 1].ne(1)
            torch.testing.assert_close(step[real, -1], full[real, end - 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied", ["", "--share-decoder-input-output-embed"])
def test_a_language_model_has_it_too(tied):
    flags = f"--skip-type plain {tied} --embedding-norm"
    model, plain = (language.build("transformer_lm_rskip", f"{flags} {name}") for name in ("fixnorm", "none"))
    assert len(tables(model)) == (1 if tied else 2)
    assert all(table.abs().max() <= 0.01 for table in tables(model))
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        for table in tables(plain):
            table.copy_(nn.functional.normalize(table))
    found, expected = (one.eval()(language.batch())[0] for one in (model, plain))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--embedding-norm", "unit"], "--embedding-norm unit: valid are none, fixnorm"),
        (
            [*FIXNORM, "--adaptive-softmax-cutoff", "10", *ADAPTIVE_LOSS],
            "fixnorm does not go with --adaptive-softmax-cutoff",
        ),
        (
            [*FIXNORM, "--skip-type", "plain", "--initialisation", "lipschitz"],
            "both have first weights for word",
        ),
    ],
)
def test_what_means_nothing_is_refused(flags, message):
    with pytest.raises(UserError, match=message):
        build("transformer_rskip", *flags)


@pytest.mark.parametrize("flag", ["--adaptive-input", "--character-embeddings"])
def test_input_without_rows_is_refused(flag):
    with pytest.raises(
        UserError, match=f"--embedding-norm fixnorm does not go with {flag}: each word needs a row"
    ):
        language.build("transformer_lm_rskip", f"--skip-type plain --embedding-norm fixnorm {flag}")


def test_an_initialisation_of_layers_goes_with_it():
    model = build("transformer_rskip", *FIXNORM, "--skip-type", "plain", "--initialisation", "ds")
    assert all(table.abs().max() <= 0.01 for table in tables(model))


def test_a_resumed_run_may_not_change_it():
    args = parse("transformer_rskip", *FIXNORM)
    (found,) = resume._changes(parse("transformer_rskip"), args).connections
    assert found == "word vectors none → fixnorm"


def test_tools_that_read_tables_themselves_step_aside_or_are_refused(monkeypatch):
    monkeypatch.setattr(reading, "kind", lambda: "portable")
    model = build("transformer_rskip", *FIXNORM, "--skip-type", "plain").eval()
    with pytest.raises(reading.Unknown, match="its embedding UnitEmbedding"):
        engine.Engine(model.decoder, "fp32")
    with pytest.raises(UserError, match="CTranslate2 has no word vectors of the kind fixnorm"):
        to_ctranslate2.check(model, model.args)


def test_exported_programs_have_it():
    model = build("transformer_rskip", *MEANT).eval()
    source, lengths, target = batch()
    out, padding = export_encoder(model).module()(source)
    cache = empty_cache(model.decoder, len(source))
    logits, _ = export_step(model).module()(target[:, :1], out, padding, cache)
    torch.testing.assert_close(logits, model(source, lengths, target)[0][:, 0], rtol=1e-4, atol=1e-5)
