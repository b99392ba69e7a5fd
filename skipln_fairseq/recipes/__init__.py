"""From public corpora to BLEU: recipes for public corpora and for your own text."""
