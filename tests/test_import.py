"""Who imports this package gets its models and workarounds; all else of fairseq's goes on as it did."""

import inspect
import json
from types import SimpleNamespace

import pytest
import torch
from fairseq import checkpoint_utils, search
from fairseq.dataclass.configs import CheckpointConfig, GenerationConfig
from fairseq.sequence_generator import EnsembleModel, SequenceGenerator, SequenceGeneratorWithAlignment
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from skipln_fairseq.compat.bfloat16 import sum_gradients_in_single
from skipln_fairseq.compat.patch import around
from skipln_fairseq.decoding.generator import QuickGenerator
from tests.decoding.test_generator import assert_same, sharpened, sources
from tests.support.build import Task, batch, build
from tests.support.commands import run

OURS, STOCK = "transformer_rskip", "transformer"
SEARCHES = {
    "beams": search.BeamSearch,
    "diverse beams": lambda dictionary: search.DiverseBeamSearch(dictionary, 2, 0.5),
    "siblings": lambda dictionary: search.DiverseSiblingsSearch(dictionary, 0.5),
    "lengths": lambda dictionary: search.LengthConstrainedBeamSearch(dictionary, 1, 0, 1, 0),
    "sampling": lambda dictionary: search.Sampling(dictionary, sampling_topk=5),
    "sampling by mass": lambda dictionary: search.Sampling(dictionary, sampling_topp=0.3),
}


def generator_of(*models, **settings):
    """What a task builds."""
    dictionary = models[0].decoder.dictionary
    task = TranslationTask(TranslationConfig(), dictionary, dictionary)
    return task.build_generator([*models], GenerationConfig(**{"beam": 4, "max_len_b": 8} | settings))


def reloaded(module, tmp_path):
    torch.jit.script(module).save(str(tmp_path / "scripted.pt"))
    return torch.jit.load(str(tmp_path / "scripted.pt"))


def test_functions_are_wrapped_and_nothing_else_changes():
    """Names, kinds and arguments stay, nothing registered is lost, and TorchScript sees fairseq's own code."""
    (line,) = [
        line
        for line in run("-m", "tests.support.changes_of_import").output.splitlines()
        if line.startswith("CHANGES")
    ]
    found = json.loads(line.removeprefix("CHANGES"))
    assert "fairseq.search.DiverseBeamSearch.step" in found["changed"]
    assert all(name.startswith(("fairseq.", "fairseq_cli.")) for name in found["changed"])
    assert found["other"] == found["lost"] == []


@pytest.mark.parametrize("archs", [(STOCK,), (STOCK, STOCK), (OURS, STOCK), (STOCK, OURS), (OURS, OURS)])
def test_the_generator_of_other_models_stays_fairseqs(archs):
    assert type(generator_of(*map(build, archs))) is SequenceGenerator


def test_other_generators_stay_too():
    assert type(generator_of(build(OURS))) is QuickGenerator
    assert type(generator_of(build(OURS), print_alignment="hard")) is SequenceGeneratorWithAlignment


@pytest.mark.parametrize(
    ("arch", "settings", "prepared"),
    [
        (STOCK, {}, False),
        (STOCK, {"diverse_beam_groups": 2}, True),
        (OURS, {}, True),
        (OURS, {"diverse_beam_groups": 2, "no_repeat_ngram_size": 2}, False),
    ],
)
@torch.no_grad()
def test_a_generator_scripts(arch, settings, prepared, tmp_path):
    """Saved and loaded it finds what it finds in Python, where it works on as it did."""
    model = sharpened(build(arch, "--export"))
    if prepared:
        model.make_generation_fast_()
    generator = generator_of(model, **settings)
    kind, sample = type(generator), sources()
    expected = generator.generate([model], sample)
    scripted = reloaded(generator, tmp_path)
    assert_same(scripted(sample), expected, {"rtol": 1e-5, "atol": 1e-4})
    assert_same(generator.generate([model], sample), expected, {"rtol": 1e-5, "atol": 1e-4})
    assert type(generator) is kind


@pytest.mark.parametrize("arch", [STOCK, OURS])
def test_an_ensemble_scripts(arch, tmp_path):
    reloaded(EnsembleModel([build(arch, "--export"), build(arch, "--export", seed=2)]), tmp_path)


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_script(name, tmp_path):
    reloaded(SEARCHES[name](Task().target_dictionary), tmp_path)


def test_a_model_that_trains_in_bfloat16_scripts(tmp_path):
    model = build(STOCK, "--export").eval()
    sum_gradients_in_single(model)
    torch.testing.assert_close(reloaded(model, tmp_path)(*batch())[0], model(*batch())[0])


@pytest.mark.parametrize(
    "conflict", ["reset_optimizer", "reset_lr_scheduler", "reset_meters", "reset_dataloader"]
)
def test_what_contradicts_itself_is_told_before_what_is_missing(conflict, tmp_path):
    flags = CheckpointConfig(save_dir=str(tmp_path), finetune_from_model=str(tmp_path / "missing.pt"))
    trainer = SimpleNamespace(checkpoint_suffix="")
    with pytest.raises(ValueError, match=r"missing\.pt does not exist"):
        checkpoint_utils.load_checkpoint(flags, trainer)
    setattr(flags, conflict, True)
    with pytest.raises(ValueError, match="can not be set together with either"):
        checkpoint_utils.load_checkpoint(flags, trainer)


def test_flags_may_name_what_another_user_dir_brings(tmp_path):
    """It is imported only while the flags are parsed."""
    (tmp_path / "some_tasks").mkdir()
    (tmp_path / "some_tasks" / "__init__.py").write_text(
        "from fairseq.tasks import register_task\n"
        "from fairseq.tasks.translation import TranslationTask\n"
        "register_task('some_task')(type('SomeTask', (TranslationTask,), {}))\n"
    )
    flags = ["--user-dir", str(tmp_path / "some_tasks"), "--task", "some_task", "--path", "x.pt"]
    code = f"""
import skipln_fairseq
from fairseq import options
parser = options.get_generation_parser()
print("TASK", options.parse_args_and_arch(parser, {flags!r}).task)
"""
    assert "TASK some_task" in run("-c", code).output


class Owner:
    """Has one of each kind."""

    factor = 2

    @staticmethod
    def twice(x):
        return 2 * x

    @classmethod
    def times(cls, x):
        return cls.factor * x


class Heir(Owner):
    """With a factor of its own."""

    factor = 3


def test_static_and_class_methods_stay_what_they_are(monkeypatch):
    for name in ("twice", "times"):
        monkeypatch.setattr(Owner, name, inspect.getattr_static(Owner, name))  # which is put back at the end

    @around(Owner, "twice")
    def twice(stock, x):
        return stock(x) + 1

    @around(Owner, "times")
    def times(stock, cls, x):
        return stock(cls, x) + 1

    assert Owner.twice(3) == Owner().twice(3) == Heir.twice(3) == 7
    assert Owner.times(3) == Owner().times(3) == 7
    assert Heir.times(3) == Heir().times(3) == 10
