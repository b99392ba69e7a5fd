"""Alignment supervision (Garg et al. 2019) through fairseq's commands."""

import pytest

from tests.support.commands import SIZES, TRAIN, preprocess, run

LEARN = ("--load-alignments", "--criterion", "label_smoothed_cross_entropy_with_alignment")
SMALL = [
    *("--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "64", "--encoder-attention-heads", "2"),
    *("--decoder-attention-heads", "2", "--encoder-layers", "2", "--decoder-layers", "2"),
]


@pytest.fixture(scope="module")
def aligned(texts, tmp_path_factory):
    """Every target word aligned to the source word at its place."""
    folder = tmp_path_factory.mktemp("aligned")
    for split in SIZES:
        for language in ("en", "de"):
            (folder / f"{split}.{language}").symlink_to(texts / f"{split}.{language}")
        sides = [(texts / f"{split}.{language}").read_text("utf-8").splitlines() for language in ("en", "de")]
        lengths = [min(len(s.split()), len(t.split())) for s, t in zip(*sides, strict=True)]
        links = "".join(" ".join(f"{i}-{i}" for i in range(n)) + "\n" for n in lengths)
        (folder / f"{split}.align").write_text(links)
    preprocess(folder, folder / "data", "--align-suffix", "align")
    return folder / "data"


def train(data, folder, *flags, arch="transformer_align_rskip", **how):
    return run("fairseq-train", data, *TRAIN, *SMALL, "--arch", arch, "--save-dir", folder, *flags, **how)


def test_alignment_supervision(aligned, tmp_path):
    """The alignment loss falls."""
    trained = train(
        aligned, tmp_path, *LEARN, "--alignment-layer=1", "--alignment-lambda=0.5", "--max-epoch=3"
    )
    losses = [float(epoch["valid_alignment_loss"]) for epoch in trained.logged("valid")]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("arch", ["transformer_align_rskip", "transformer_align"])
def test_printed_alignments_are_those_of_the_supervised_layer(aligned, tmp_path, arch):
    """As the model aligns where it reads a given translation (fairseq issue 4688)."""
    flags = ("--alignment-layer=0", "--alignment-heads=1", "--lr=0.02", "--max-epoch=2")
    train(aligned, tmp_path, *LEARN, *flags, arch=arch)
    generate = ("fairseq-generate", aligned, "--path", tmp_path / "checkpoint_last.pt", "--cpu", "--print-alignment",
        "--beam=1", "--max-len-b=8", "--min-len=6", "--model-overrides")  # fmt: skip

    def printed(overrides: str, *more: str) -> list[list[str]]:
        return [line.split() for line in sorted(run(*generate, overrides, *more).lines("A"))]

    found = printed("{}")
    assert len(found) == SIZES["test"]
    assert found != printed("{'alignment_layer': 1}")
    assert found != printed("{'alignment_heads': 2}")
    # before the first word both read the same
    forced = printed("{}", "--score-reference")
    assert [line[:2] for line in found] == [line[:2] for line in forced]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((*LEARN, "--alignment-layer=2"), "--alignment-layer 2: valid is 0 to 1, the last layer's"),
        (
            (*LEARN, "--alignment-layer=1", "--alignment-heads=3"),
            "--alignment-heads 3: valid is 1 to --decoder-att",
        ),
        (
            LEARN[:1],
            "--load-alignments and --criterion label_smoothed_cross_entropy_with_alignment act only together",
        ),
        (
            LEARN[1:],
            "--load-alignments and --criterion label_smoothed_cross_entropy_with_alignment act only together",
        ),
    ],
)
def test_what_would_align_nothing(aligned, tmp_path, flags, message):
    finished = train(aligned, tmp_path, *flags, succeeds=False)
    assert f"error: {message}" in finished.output
    assert "Traceback" not in finished.output


def test_data_without_alignments(data, tmp_path):
    finished = train(data, tmp_path, *LEARN, "--alignment-layer=1", succeeds=False)
    assert "error: --load-alignments: the data hold none of 'train'" in finished.output
    assert not finished.losses()


def test_alignment_with_the_full_context(aligned, tmp_path):
    train(aligned, tmp_path, *LEARN, "--alignment-layer=0", "--full-context-alignment")
    generate = ("fairseq-generate", aligned, "--path", tmp_path / "checkpoint_last.pt", "--cpu", "--beam=2",
        "--max-len-b=8", "--min-len=6", "--print-alignment", "--model-overrides")  # fmt: skip
    full = run(*generate, "{}").lines("A")
    assert len(full) == SIZES["test"]
    assert full != run(*generate, "{'full_context_alignment': False}").lines("A")
