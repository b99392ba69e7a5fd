"""From public corpora to BLEU: what the folders ``examples/*/`` with a ``recipe.yaml`` have in common."""
