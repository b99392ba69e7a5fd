"""The snippets of the README and of the page about plain PyTorch, run one after another as they stand."""

import warnings
from importlib.util import find_spec

import pytest
import torch

from tests.docs.snippets import PAGE, SNIPPETS

BERT = "from transformers import"


def run(snippets):
    torch.manual_seed(1)
    names = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for snippet in snippets:
            exec(compile(snippet, "docs/torch.md", "exec"), names)
    return names


def test_the_snippets(capsys):
    assert len(SNIPPETS) == 10
    names = run([snippet for snippet in SNIPPETS if BERT not in snippet])
    assert names["y"].shape == names["x"].shape
    # what the page says that is printed
    printed = capsys.readouterr().out.strip()
    assert f"print(error)  # {printed}\n" in PAGE


@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
def test_the_snippet_of_bert():
    run([*SNIPPETS[:2], *(snippet for snippet in SNIPPETS if BERT in snippet)])
