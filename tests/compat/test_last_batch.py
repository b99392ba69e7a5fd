"""Every sentence is in a batch."""

import numpy as np
import pytest
from fairseq.data import data_utils

import skipln_fairseq  # noqa: F401  (applies the workarounds)
from tests.support.commands import SIZES, run


@pytest.mark.parametrize("limits", [{"max_sentences": 1}, {"max_sentences": 16}, {"max_tokens": 20}])
@pytest.mark.parametrize("multiple", [1, 8])
@pytest.mark.parametrize("sentences", [1, 15, 16, 30])
def test_batches_hold_every_index_once_and_in_order(limits, multiple, sentences):
    lengths = np.sort(np.random.RandomState(1).randint(3, 9, sentences)).astype(np.int64)
    indices = np.random.RandomState(2).permutation(sentences)
    batches = data_utils.batch_by_size(
        indices, None, num_tokens_vec=lengths, required_batch_size_multiple=multiple, **limits
    )
    assert np.concatenate(batches).tolist() == indices.tolist()
    longest = dict(zip(indices, lengths, strict=True))  # as the batcher reads them, in the order of indices
    for batch in batches:
        assert len(batch) <= limits.get("max_sentences", len(batch))
        assert len(batch) * max(longest[i] for i in batch) <= limits.get("max_tokens", np.inf)


def test_all_sentences_are_trained_on_validated_and_translated(data, trained):
    flags = ("--task=translation", "--cpu", "--path", trained.checkpoint)
    (epoch, *_) = trained.printed.logged("train")
    updates = float(epoch["train_num_updates"])
    assert float(epoch["train_bsz"]) * updates == pytest.approx(SIZES["train"], abs=1)
    finished = run("fairseq-validate", data, *flags, "--batch-size=16", "--log-format=json")
    assert float(finished.logged("valid")[0]["valid_bsz"]) == SIZES["valid"]
    finished = run("fairseq-generate", data, *flags, "--batch-size=7", "--max-len-b=5", "--beam=1")
    assert len(finished.lines("H")) == SIZES["test"]
