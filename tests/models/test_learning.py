"""Every member of the family learns: strings of digits are reversed after a bounded number of updates."""

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator
from torch.nn import functional as F

from skipln_fairseq.models.family import declarations, example
from tests.support.build import CONNECTIONS, Task, build

UPDATES = 1000
DIMS = (
    *("--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "128", "--encoder-attention-heads", "4"),
    *("--decoder-attention-heads", "4", "--dropout", "0", "--share-all-embeddings"),
)
# Schedules that are over before the run is.
SOONER = {"branchnorm": "--branchnorm-updates 300", "prores": "--prores-updates 150"}
MEMBERS = {
    f"{variant.axis} {variant.choice}": f"{example(variant)} {SOONER.get(variant.choice, '')}"
    for variant in declarations()
}
PAD, EOS, FIRST_DIGIT = 1, 2, 4


def strings(count, generator):
    """Digit strings of 2–8 digits as source (left-padded, with eos), and the same reversed (right-padded)."""
    source = torch.full((count, 9), PAD)
    target = torch.full((count, 9), PAD)
    for row, length in enumerate(torch.randint(2, 9, (count,), generator=generator).tolist()):
        digits = torch.randint(FIRST_DIGIT, FIRST_DIGIT + 10, (length,), generator=generator)
        source[row, -length - 1 :] = torch.cat((digits, torch.tensor([EOS])))
        target[row, : length + 1] = torch.cat((digits.flip(0), torch.tensor([EOS])))
    return source, source.ne(PAD).sum(1), target


def reversed_after_training(flags):
    """Of 500 strings how many a model with these flags reverses."""
    model = build("transformer_rskip", *DIMS, *flags.split())
    generator = torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda update: min((update + 1) / 200, 1 - update / UPDATES)
    )
    for update in range(UPDATES):
        model.set_num_updates(update)
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
    return sum(f[0]["tokens"].equal(t[t.ne(PAD)]) for f, t in zip(found, target, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CONNECTIONS, *MEMBERS])
def test_reversing_digits(name):
    right = reversed_after_training((CONNECTIONS | MEMBERS)[name])
    assert right >= 495, f"{right} of 500 strings reversed"
