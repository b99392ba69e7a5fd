"""What a model's connections do to its activations and gradients: ``python -m skipln_fairseq.probe``.

| file | concept |
|---|---|
| `watch` | hooks that report each sub-layer's norms and ratios, for the tool and for the training log |
| `ratio`, `streams` | the effective proportion x : F of a skip rule; what became of several streams |
| `weights` | the learned weights between blocks, as a matrix |
| `subject` | the model and the batch to measure, random or real |
| `measure` | one forward and backward pass, as a list of readings |
| `picture`, `panel` | the declared pictures: which models are measured, and which panels show them |
| `draw`, `table`, `growth` | the figure, the terminal's table, and the table of what grows with the depth |
| `log` | the same numbers during training, ``--probe-interval`` |
"""

from .. import plugin  # noqa: F401  (prepares fairseq)
