"""Flags of the bench for models that take no time."""

SMALL = (
    *("--encoder-layers", "1", "--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "24"),
    *("--decoder-layers", "1", "--max-tokens", "128", "--rounds", "1"),
)
MINIATURE = (*SMALL, "--batches", "2", "--starts", "1")
