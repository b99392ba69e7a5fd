"""What numpy 2 has removed, or does otherwise, and fairseq still asks for."""

import math
import re

import numpy as np
import pytest
import torch
from fairseq.data.bucket_pad_length_dataset import get_buckets
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from fairseq.modules import DynamicCRF

import skipln_fairseq  # noqa: F401
from tests.compat.test_bad_data import one_line
from tests.compat.test_bad_indexes import HEADER
from tests.support.commands import SIZES, TRAIN, run


def test_batches_are_bucketed_by_length(data, tmp_path):
    flags = ("--num-batch-buckets", "4", "--max-tokens", "400", "--save-dir", tmp_path)
    finished = run("fairseq-train", data, *TRAIN, *flags)
    assert "bucketing source lengths" in finished.output
    assert len(finished.losses()) >= math.ceil(SIZES["train"] / 16)


def test_buckets_end_at_lengths_that_occur():
    sizes = np.array([3, 3, 4, 8, 9, 20])
    assert get_buckets(sizes, 2).tolist() == [4, 20]
    assert get_buckets(sizes, 100).tolist() == [3, 4, 8, 9, 20]


def test_the_random_fields_of_non_autoregressive_models_are_trained():
    torch.manual_seed(0)
    field = DynamicCRF(num_embedding=10, low_rank=4, beam_size=5)
    emissions, targets = torch.randn(2, 6, 10), torch.randint(10, (2, 6))
    assert field(emissions, targets, torch.ones(2, 6, dtype=torch.bool)).isfinite().all()


def test_an_index_of_two_gigabytes_is_written_right(tmp_path):
    """Lengths that several workers hand over are numpy's, which would overflow as they are added up."""
    builder = MMapIndexedDatasetBuilder(str(tmp_path / "x.bin"), np.uint16)
    builder._sizes = list(np.array([2**30, 2**30, 1], np.int32))
    builder.finalize(str(tmp_path / "x.idx"))
    places = np.frombuffer((tmp_path / "x.idx").read_bytes(), "<i8", 3, HEADER + 12)
    assert places.tolist() == [0, 2**31, 2**32]


@pytest.fixture(scope="module")
def language_model(texts, tmp_path_factory):
    """Data of one side, and a model of blocks of 16 words."""
    folder = tmp_path_factory.mktemp("lm")
    prefixes = (f"--{split}pref={texts / split}.en" for split in SIZES)
    run("fairseq-preprocess", "--only-source", *prefixes, "--destdir", folder / "data")
    small = ("--decoder-embed-dim=16", "--decoder-ffn-embed-dim=32", "--decoder-layers=2")
    flags = ("--task=language_modeling", "--arch=transformer_lm_rskip", *small, "--decoder-attention-heads=2")
    run("fairseq-train", folder / "data", *TRAIN, *flags, "--tokens-per-sample=16", "--save-dir", folder)
    return folder


def evaluate(folder, *flags, **how):
    path = folder / "checkpoint_last.pt"
    return run(
        "fairseq-eval-lm", folder / "data", "--path", path, "--cpu", "--gen-subset=valid", *flags, **how
    )


@pytest.mark.parametrize("flags", [("--tokens-per-sample=64",), ("--tokens-per-sample=17",)])
def test_a_perplexity_leaves_out_no_block(language_model, flags):
    assert "Perplexity: " in evaluate(language_model, "--tokens-per-sample=16").output
    failed = evaluate(language_model, *flags, succeeds=False)
    assert "the model was made for 16: give --tokens-per-sample 16 or less" in one_line(failed)
    assert "Perplexity" not in failed.output


def test_a_shard_without_a_batch_measures_nothing_and_says_so(language_model):
    flags = ("--tokens-per-sample=16", "--batch-size=1")
    alone = evaluate(language_model, *flags)
    shards = [evaluate(language_model, *flags, "--num-shards=2", f"--shard-id={n}") for n in (0, 1)]
    words = [int(re.search(r"Evaluated ([\d,]+) tokens", one.output)[1]) for one in (alone, *shards)]
    assert words[0] == words[1] + words[2] > words[1]
    failed = evaluate(language_model, *flags, "--num-shards=500", "--shard-id=499", succeeds=False)
    assert "--shard-id 499 of --num-shards 500 gets no batch" in one_line(failed)
