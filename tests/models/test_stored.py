"""Checkpoints that an earlier release wrote, one for each skip type of its time, load and give what they gave.

``stored/*.pt`` hold flags, parameters and the logits of one batch. They were written before variants declared
themselves, and are never written again.
"""

from pathlib import Path

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerModel

import skipln_fairseq  # noqa: F401  (the entry point)
from skipln_fairseq.nn.kernels.decode import kind

FILES = sorted((Path(__file__).parents[1] / "stored").glob("*.pt"))


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    dictionary = Dictionary()
    for word in range(12):
        dictionary.add_symbol(f"w{word}")
    for language in ("en", "de"):
        dictionary.save(str(folder / f"dict.{language}.txt"))
    return folder


def test_all_thirteen_are_here():
    assert len(FILES) == 13


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_stored_model_gives_what_it_gave(file, words):
    hub = TransformerModel.from_pretrained(str(file.parent), file.name, str(words))
    model = hub.models[0].eval()
    source, target = torch.tensor([[1, 5, 9, 2], [4, 7, 13, 2]]), torch.tensor([[2, 6, 8], [2, 11, 1]])
    batch = source, source.ne(1).sum(1), target
    expected = torch.load(file, weights_only=False)["expected"]
    torch.testing.assert_close(model(*batch)[0], expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        by_kernels = model(*batch)[0]
    bound = 2**-13 if kind() == "amx" else 1e-5  # which multiplies two bfloat16 parts of each number
    torch.testing.assert_close(by_kernels, expected, rtol=bound, atol=bound)
