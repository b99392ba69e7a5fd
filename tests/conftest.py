"""A small corpus, a small checkpoint, and other things that many tests share."""

import functools
import itertools
from pathlib import Path

import pytest

from .support.cases import spread
from .support.commands import EVAL_BLEU, SIZES, TRAIN, Finished, Trained, preprocess, run_isolated


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--cases 2``: what is tried with many values is tried with the first and the last."""
    parser.addoption("--cases", type=int, metavar="N", help="of each test at most N cases, evenly spread")


@pytest.hookimpl(trylast=True)  # of those that -m and -k leave
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the other cases."""
    most = config.getoption("--cases")
    if most is None:
        return
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {id(item) for all_of_one in cases.values() for item in spread(all_of_one, most)}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]


def pytest_configure(config: pytest.Config) -> None:
    """``pytest`` alone leaves out the slow tests; ``pytest -m slow`` runs them."""
    config.option.markexpr = config.option.markexpr or "not slow"


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> Path:
    """Folder of ``train``, ``valid`` and ``test`` in two languages."""
    from skipln_fairseq.recipes.generator import generate  # on top, all commands would have this package

    folder = tmp_path_factory.mktemp("texts")
    pairs = iter(generate(sum(SIZES.values()), seed=7))
    for split, size in SIZES.items():
        sides = zip(*itertools.islice(pairs, size), strict=True)
        for language, side in zip(("en", "de"), sides, strict=True):
            (folder / f"{split}.{language}").write_text(
                "".join(f"{line}\n" for line in side), encoding="utf-8"
            )
    return folder


@pytest.fixture(scope="session")
def data(texts, tmp_path_factory) -> Path:
    """The texts, binarised."""
    folder = tmp_path_factory.mktemp("data")
    preprocess(texts, folder, run=run_isolated)
    return folder


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory) -> Trained:
    """Three epochs of the tiny model, from a process of its own, with BLEU and all logs."""
    folder = tmp_path_factory.mktemp("trained")
    flags = (
        "--max-epoch=3",
        "--save-dir",
        folder,
        "--tensorboard-logdir",
        folder / "tensorboard",
        *EVAL_BLEU,
    )
    return Trained(folder, run_isolated("fairseq-train", data, *TRAIN, *flags))


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> tuple[Path, Finished]:
    """Two models of digits, a few epochs old: their folder, and what the first one's training printed."""
    from tests.support.image_commands import (
        train,  # which imports torch, as most of what uses this file does not
    )

    folder = tmp_path_factory.mktemp("digits")
    printed = train(folder / "rskip", "--max-epoch", "8", "--arch", "preact_resnet20_rskip")
    train(folder / "plain", "--max-epoch", "6")
    return folder, printed


@pytest.fixture
def prepared(tmp_path):
    """Prepares a recipe from a slice of its corpus, see there."""
    from tests.support.recipe_files import (
        prepare_slice,  # which imports what most of these tests have no use for
    )

    return functools.partial(prepare_slice, folder=tmp_path)


@pytest.fixture
def grid(tmp_path):
    """See there."""
    from tests.support.comparisons import make_grid  # which imports what most tests have no use for

    return make_grid(tmp_path)


@pytest.fixture
def compared(grid, tmp_path, monkeypatch, capsys):
    """Compares by the grid, with commands that only seem to train."""
    from tests.support.comparisons import compare_by, fake  # as above

    fake(monkeypatch)
    return functools.partial(compare_by, grid, tmp_path, capsys)


@pytest.fixture
def torch_threads():
    """Set torch's number of threads for a test."""
    import torch  # which most of what uses this file does not need in its own process

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
