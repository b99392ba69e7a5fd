"""The demonstration behind ``make demo``: a real corpus, a small model, BLEU and sample translations."""
