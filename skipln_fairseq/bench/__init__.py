"""What training costs beside fairseq's own ``transformer``: ``python -m skipln_fairseq.bench``.

| file | concept |
|---|---|
| `contestants`, `shapes` | the models that are compared, and their dimensions |
| `naive` | the recursive skip as one would write it first: a contestant that is nowhere else |
| `lengths`, `batches` | how long real sentences are (`multi30k.txt`), and random sentences of these lengths |
| `worker` | a process that trains one contestant, step by step as it is asked |
| `train_and_decode` | one that decodes with it too |
| `race` | all processes of a comparison, asked one at a time |
| `memory`, `statistics`, `machine` | the numbers, their spread, and where they were measured |
| `options`, `report`, `render` | the flags, the JSON and the tables |
| `train`, `family`, `grow`, `leave`, `draw`, `table`, `histogram` | the commands |
"""

from .. import plugin  # noqa: F401  (prepares fairseq)
