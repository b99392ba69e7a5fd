"""fairseq-train, fairseq-validate and fairseq-eval-lm with this plugin."""

import math
import shutil

import pytest
import torch

from tests.support.commands import SIZES, TRAIN, USER_DIR, run, run_isolated

SCHEDULE = ("--lr-scheduler=inverse_sqrt", "--warmup-updates=10", "--dropout=0.2")
UPDATES = math.ceil(SIZES["train"] / 16)  # in an epoch


def train(data, folder, *more, **how):
    return run("fairseq-train", data, *TRAIN, "--save-dir", folder, *more, **how)


def parameters(file):
    return torch.load(file, weights_only=True)["model"]


def assert_equal(file, other):
    expected, found = parameters(other), parameters(file)
    assert expected.keys() == found.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


def test_training_learns_and_logs(trained):
    losses = [float(loss) for _, loss in trained.printed.losses()]
    assert len(losses) == 3 * UPDATES
    assert losses[-1] < losses[0] - 2
    assert [entry["epoch"] for entry in trained.printed.logged("valid")] == [1, 2, 3]
    assert all(float(entry["valid_bleu"]) >= 0 for entry in trained.printed.logged("valid"))
    assert trained.printed.output.count("example hypothesis: ") > 0
    for kind in ("train", "train_inner", "valid"):
        (events,) = (trained.folder / "tensorboard" / kind).iterdir()
        assert events.stat().st_size > 100


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, train(data, folder, *SCHEDULE, "--max-epoch=2")


@pytest.mark.parametrize("stop", [5, UPDATES, UPDATES + 5], ids=["epoch 1", "between", "epoch 2"])
def test_a_resumed_run_is_the_uninterrupted_run(tmp_path, data, uninterrupted, stop):
    """The same loss in every update, the same parameters to the bit; with dropout, warm-up and Adam."""
    folder, whole = uninterrupted
    first = train(data, tmp_path, *SCHEDULE, "--max-epoch=2", f"--max-update={stop}")
    rest = train(data, tmp_path, *SCHEDULE, "--max-epoch=2")
    assert len(first.losses()) == stop
    assert first.losses() + rest.losses() == whole.losses()
    assert_equal(tmp_path / "checkpoint_last.pt", folder / "checkpoint_last.pt")


def test_finetuning_starts_from_the_model_and_nothing_else(tmp_path, data, trained):
    before = trained.checkpoint.read_bytes()
    tuned = train(data, tmp_path / "tuned", "--finetune-from-model", trained.checkpoint)
    (update, loss), *_ = tuned.losses()
    (_, untrained), *_ = trained.printed.losses()
    assert update == "1"
    assert float(loss) < float(untrained) - 2
    assert trained.checkpoint.read_bytes() == before


def test_checkpointed_activations_train_the_same_model(tmp_path, data):
    """The same losses; gradients are summed in another order, so no bit-equal parameters to ask for."""
    plain = train(data, tmp_path / "plain", "--dropout=0")
    checkpointed = train(data, tmp_path / "checkpointed", "--dropout=0", "--checkpoint-activations")
    for (_, loss), (_, expected) in zip(checkpointed.losses(), plain.losses(), strict=True):
        assert float(loss) == pytest.approx(float(expected), abs=2e-3)


def test_layerdrop(tmp_path, data):
    flags = ("--encoder-layerdrop=0.5", "--decoder-layerdrop=0.5", "--max-update=6")
    assert len(train(data, tmp_path, *flags).losses()) == 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fairseq trains in half precision on a GPU only")
def test_half_precision(tmp_path, data):
    flags = [flag for flag in TRAIN if flag != "--cpu"]
    finished = run_isolated("fairseq-train", data, *flags, "--fp16", "--max-epoch=3", "--save-dir", tmp_path)
    assert len(finished.losses()) == 3 * UPDATES


def test_validation_repeats_what_training_said(data, trained):
    flags = ("--task=translation", "--cpu", "--batch-size=16", "--log-format=json")
    finished = run_isolated("fairseq-validate", data, "--path", trained.checkpoint, *flags)
    (validated,) = finished.logged("valid")
    last = trained.printed.logged("valid")[-1]
    for name in ("loss", "bleu"):
        assert float(validated[f"valid_{name}"]) == pytest.approx(float(last[f"valid_{name}"]), abs=2e-3)


def test_the_best_checkpoint_by_bleu_and_an_average_of_the_weights(tmp_path, data):
    """What these flags add to a checkpoint has to load again."""
    flags = ("--eval-bleu", '--eval-bleu-args={"max_len_b": 20}', "--best-checkpoint-metric=bleu")
    flags += ("--maximize-best-checkpoint-metric", "--patience=3", "--store-ema", "--ema-fp32")
    train(data, tmp_path, *flags)
    assert len(train(data, tmp_path, *flags, "--max-epoch=2").losses()) == UPDATES


def test_hydra_is_refused_before_it_trains_another_model(tmp_path, data):
    flags = ["task=translation", f"task.data={data}", "+model._name=transformer_rskip_tiny", "optimizer=adam"]
    flags += ["optimization.lr=[0.002]", "optimization.max_update=3", "dataset.batch_size=16"]
    flags += [f"checkpoint.save_dir={tmp_path}", f"hydra.run.dir={tmp_path}", "common.cpu=true"]
    hydra = ("fairseq-hydra-train", f"common.user_dir={USER_DIR}")
    refused = run_isolated(*hydra, *flags, user_dir=None, succeeds=False)
    assert refused.output.strip().splitlines()[-1].startswith("skipln_fairseq: error: fairseq-hydra-train")
    assert "Traceback" not in refused.output
    assert not list(tmp_path.glob("*.pt"))


def test_several_language_pairs(tmp_path, data):
    flags = ("--task=translation_multi_simple_epoch", "--langs=en,de", "--lang-pairs=en-de")
    flags += ("--encoder-langtok=src", "--decoder-langtok")
    train(data, tmp_path, *flags)
    flags += ("-s", "en", "-t", "de", "--path", tmp_path / "checkpoint_last.pt", "--cpu", "--max-len-b=9")
    assert run("fairseq-generate", data, *flags).lines("H")


def test_a_language_model(tmp_path, texts):
    """Not ours, but in the same fairseq: the workarounds must not get in its way."""
    prefixes = (f"--{split}pref={texts / split}.en" for split in ("train", "valid", "test"))
    run("fairseq-preprocess", "--only-source", *prefixes, "--destdir", tmp_path / "data")
    flags = ("--task=language_modeling", "--arch=transformer_lm", "--optimizer=adam", "--lr=0.001", "--cpu")
    size = ("--decoder-layers=1", "--decoder-embed-dim=16", "--decoder-ffn-embed-dim=16")
    batches = ("--tokens-per-sample=32", "--batch-size=16", "--max-update=3")
    run("fairseq-train", tmp_path / "data", *flags, *size, *batches, "--save-dir", tmp_path)
    flags = ("--path", tmp_path / "checkpoint_last.pt", "--cpu", "--tokens-per-sample=32", "--batch-size=8")
    assert "Perplexity: " in run("fairseq-eval-lm", tmp_path / "data", *flags).output


def test_back_translation(tmp_path, texts, data, trained):
    """Translate monolingual English, and train German–English on real and synthetic pairs together."""
    flags = ("-s", "en", "-t", "de", "--only-source", "--srcdict", data / "dict.en.txt")
    run("fairseq-preprocess", *flags, "--testpref", texts / "valid", "--destdir", tmp_path / "mono")
    shutil.copy(data / "dict.de.txt", tmp_path / "mono")
    flags = ("-s", "en", "-t", "de", "--path", trained.checkpoint, "--cpu", "--max-len-b=20")
    translated = run("fairseq-generate", tmp_path / "mono", *flags)
    for kind, language, column in (("S", "en", 1), ("H", "de", 2)):
        lines = [line.split("\t")[column] for line in translated.lines(kind)]
        assert len(lines) == SIZES["valid"]
        (tmp_path / f"synthetic.{language}").write_text("".join(f"{line}\n" for line in lines))
    flags = ("-s", "de", "-t", "en", "--srcdict", data / "dict.de.txt", "--tgtdict", data / "dict.en.txt")
    run(
        "fairseq-preprocess",
        *flags,
        "--trainpref",
        tmp_path / "synthetic",
        "--destdir",
        tmp_path / "synthetic",
    )
    both = shutil.copytree(data, tmp_path / "both")
    for language in ("en", "de"):
        for end in ("bin", "idx"):
            shutil.copy(
                tmp_path / f"synthetic/train.de-en.{language}.{end}", both / f"train1.de-en.{language}.{end}"
            )
    finished = train(both, tmp_path / "run", "-s", "de", "-t", "en", "--upsample-primary=2")
    assert len(finished.losses()) == math.ceil((2 * SIZES["train"] + SIZES["valid"]) / 16)
