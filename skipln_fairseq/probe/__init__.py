"""What a model's connections do to its activations and gradients: ``python -m skipln_fairseq.probe``.

| file | concept |
|---|---|
| `watch` | hooks that report each sub-layer's norms and ratios, for the tool and for the training log |
| `ratio` | the effective proportion x : F of a skip rule |
| `subject` | the model and the batch to measure, random or real |
| `measure` | one forward and backward pass, as a list of readings |
| `picture` | which models are measured and which panels show them; the default picture |
| `draw`, `table`, `files` | the figure, the terminal's table, and writing whole files or none |
| `log` | the same numbers during training, ``--probe-interval`` |
"""

from .. import plugin  # noqa: F401  (prepares fairseq)
