"""Every connection learns: strings of digits are reversed after a bounded number of updates."""

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator
from torch.nn import functional as F

from skipln_fairseq.nn import MIXINGS, SOLVERS, SOURCES, VALUES
from tests.support.build import CONNECTIONS, Task, build

UPDATES = 1000
DIMS = (
    *("--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "128", "--encoder-attention-heads", "4"),
    *("--decoder-attention-heads", "4", "--dropout", "0", "--share-all-embeddings"),
)
PRE = "--skip-type plain --norm-placement pre"
OTHERS = {f"mixing {name}": f"{PRE} --depth-mixing {name}" for name in MIXINGS if name != "none"}
OTHERS |= {f"solver {name}": f"{PRE} --encoder-solver {name}" for name in SOLVERS if name != "none"}
OTHERS |= {f"value {name}": f"{PRE} --value-residual {name}" for name in VALUES if name != "none"}
OTHERS |= {f"source {name}": f"{PRE} --cross-attention-source {name}" for name in SOURCES if name != "last"}
PAD, EOS, FIRST_DIGIT = 1, 2, 4

OTHERS |= {
    name: f"--skip-type plain --norm-placement {name} --skip-norm rms" for name in ("hybrid", "hybrid-star")
}
OTHERS["FixNorm"] = f"{PRE} --skip-norm scale --embedding-norm fixnorm"


def strings(count, generator):
    """Digit strings of 2–8 digits as source (left-padded, with eos), and the same reversed (right-padded)."""
    source = torch.full((count, 9), PAD)
    target = torch.full((count, 9), PAD)
    for row, length in enumerate(torch.randint(2, 9, (count,), generator=generator).tolist()):
        digits = torch.randint(FIRST_DIGIT, FIRST_DIGIT + 10, (length,), generator=generator)
        source[row, -length - 1 :] = torch.cat((digits, torch.tensor([EOS])))
        target[row, : length + 1] = torch.cat((digits.flip(0), torch.tensor([EOS])))
    return source, source.ne(PAD).sum(1), target


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CONNECTIONS, *OTHERS])
def test_reversing_digits(name):
    model = build("transformer_rskip", *DIMS, *(CONNECTIONS | OTHERS)[name].split())
    generator = torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda update: min((update + 1) / 200, 1 - update / UPDATES)
    )
    for _ in range(UPDATES):
        source, lengths, target = strings(64, generator)
        previous = torch.cat((torch.full((64, 1), EOS), target[:, :-1]), dim=1)
        logits, _ = model(source, lengths, previous)
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()

    source, lengths, target = strings(500, torch.Generator().manual_seed(2))
    search = SequenceGenerator([model.eval()], Task().target_dictionary, beam_size=1, max_len_b=12)
    found = search.generate([model], {"net_input": {"src_tokens": source, "src_lengths": lengths}})
    right = sum(f[0]["tokens"].equal(t[t.ne(PAD)]) for f, t in zip(found, target, strict=True))
    assert right >= 0.99 * len(target), f"{right} of {len(target)} strings reversed"
