"""Alignment supervision (Garg et al. 2019) through fairseq's commands."""

from conftest import SIZES, TRAIN, preprocess, run


def test_alignment_supervision(texts, tmp_path):
    """Every target word aligned to the source word at its place: the alignment loss falls."""
    for split in SIZES:
        for language in ("en", "de"):
            (tmp_path / f"{split}.{language}").symlink_to(texts / f"{split}.{language}")
        sides = [(texts / f"{split}.{language}").read_text("utf-8").splitlines() for language in ("en", "de")]
        lengths = [min(len(s.split()), len(t.split())) for s, t in zip(*sides, strict=True)]
        links = "".join(" ".join(f"{i}-{i}" for i in range(n)) + "\n" for n in lengths)
        (tmp_path / f"{split}.align").write_text(links)
    data, folder = tmp_path / "data", tmp_path / "checkpoints"
    preprocess(tmp_path, data, "--align-suffix", "align")

    trained = run(
        *("fairseq-train", data, *TRAIN, "--arch", "transformer_align_rskip", "--save-dir", folder),
        *("--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "64", "--encoder-attention-heads", "2"),
        *("--decoder-attention-heads", "2", "--encoder-layers", "2", "--decoder-layers", "2"),
        *("--alignment-layer", "1", "--alignment-heads", "1", "--load-alignments", "--max-epoch", "3"),
        *("--criterion", "label_smoothed_cross_entropy_with_alignment", "--alignment-lambda", "0.5"),
    )
    losses = [float(epoch["valid_alignment_loss"]) for epoch in trained.logged("valid")]
    assert losses[-1] < losses[0]

    checkpoint = folder / "checkpoint_last.pt"
    flags = ("--path", checkpoint, "--beam", "2", "--max-len-b", "10", "--print-alignment", "--cpu")
    assert len(run("fairseq-generate", data, *flags).lines("A")) == SIZES["test"]
