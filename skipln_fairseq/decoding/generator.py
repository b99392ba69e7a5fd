"""fairseq's beam search, quicker: what ``fairseq-generate`` and ``fairseq-interactive`` search with."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from fairseq.search import BeamSearch
from fairseq.sequence_generator import EnsembleModel, SequenceGenerator
from fairseq.tasks import FairseqTask
from torch import Tensor

from ..compat.patch import around
from ..models.beams import Beams
from ..models.stacks import SkipDecoder
from ..nn.kernels.decode import Choice, Plan, Translations, best

__all__ = ["QuickGenerator"]

Hypothesis = dict[str, Tensor]


class _History:
    """What was chosen in each step: hypotheses are read from their ends once all have ended, and never copied.

    A step's rows continue rows of the step before; those that a step has chosen are the rows of the next one.
    """

    def __init__(self):
        self.choices: list[Choice] = []
        self.attention: list[Tensor | None] = []
        self.ends: list[tuple[int, int, float]] = []

    def end(self, row: int, score: float) -> int:
        """A row of the newest step ends, with this score; the number under which it is read."""
        self.ends.append((len(self.choices), row, score))
        return len(self.ends) - 1

    def read(self, eos: int, normalise: Callable[[Tensor, Tensor], Tensor]) -> list[Hypothesis]:
        """All that have ended, in fairseq's form.

        Args:
            eos: the word at their end.
            normalise: from scores and lengths to the scores by which they are compared.
        """
        steps, rows, scores = (torch.tensor(column) for column in zip(*self.ends, strict=True))
        longest = int(steps.max()) + 1
        words = torch.full((len(steps), longest), eos)
        sums = scores[:, None].repeat(1, longest)
        path = rows[:, None].repeat(1, longest)
        for step in range(longest - 2, -1, -1):
            choice, going = self.choices[step], (steps > step).nonzero()[:, 0]
            row = path[going, step + 1]
            words[going, step] = choice.words.view(-1)[row]
            sums[going, step] = choice.scores.view(-1)[row]
            path[going, step] = choice.rows.view(-1)[row]
        each = sums.clone()
        each[:, 1:] -= sums[:, :-1]
        attention = self._attention(path, steps)
        return _as_fairseq(words, steps + 1, normalise(scores, steps + 1), each, attention)

    def _attention(self, path: Tensor, steps: Tensor) -> Tensor | None:
        """(hypotheses, src_len, tgt_len), as far as each goes."""
        if self.attention[0] is None:
            return None
        found = torch.zeros(len(path), self.attention[0].size(1), path.size(1))
        for step in range(path.size(1)):
            going = (steps >= step).nonzero()[:, 0]
            found[going, :, step] = self.attention[step][path[going, step]].float()
        return found


def _as_fairseq(
    words: Tensor, lengths: Tensor, scores: Tensor, each: Tensor, attention: Tensor | None
) -> list[Hypothesis]:
    """Hypotheses in fairseq's form.

    Args:
        words: (hypotheses, longest).
        lengths: (hypotheses,).
        scores: (hypotheses,), by which they are compared.
        each: (hypotheses, longest), of their words.
        attention: (hypotheses, src_len, longest), or None.
    """
    return [
        {
            "tokens": words[number, :length],
            "score": scores[number],
            "attention": torch.empty(0) if attention is None else attention[number, :, :length],
            "alignment": torch.empty(0),
            "positional_scores": each[number, :length],
        }
        for number, length in enumerate(lengths.tolist())
    ]


def _sorted(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """The best first; of equal ones the one that has ended earlier."""
    return sorted(hypotheses, key=lambda one: -one["score"].item())


def is_ours(model: EnsembleModel) -> bool:
    """Whether it is one translation model of this plugin, and no other beside it."""
    decoder = getattr(model.single_model, "decoder", None)
    return model.models_size == 1 and isinstance(decoder, SkipDecoder) and model.has_encoder()


class QuickGenerator(SequenceGenerator):
    """fairseq's generator; plain beam search with one of our models on a CPU takes a shorter way to the same.

    The logits' softmax, its constraints and the best continuations are one pass in C. Before the first word a sentence
    is one row, not one for each hypothesis. Nothing is reordered but a table (:class:`.models.beams.Beams`).

    Sampling, diverse beams, constraints, prefixes, ensembles, a language model beside, n-gram blocking and lengths
    matched to the source are searched by fairseq's own loop, over the same decoder. So is all that TorchScript makes
    of it.
    """

    def __prepare_scriptable__(self) -> SequenceGenerator:
        scriptable = copy.copy(self)
        scriptable.__class__ = SequenceGenerator
        return scriptable

    def _generate(
        self,
        sample: dict[str, Any],
        prefix_tokens: Tensor | None = None,
        constraints: Tensor | None = None,
        bos_token: int | None = None,
    ) -> list[list[Hypothesis]]:
        net_input, first = sample["net_input"], self.eos if bos_token is None else bos_token
        if prefix_tokens is None and constraints is None and self.knows(net_input):
            found = self.search_at_once(net_input, first)
            if found is not None:
                return found
            if self.model.single_model.decoder.keeps_beams():
                return self.search_by_steps(net_input, first)
        return super()._generate(sample, prefix_tokens, constraints, bos_token)

    def knows(self, net_input: dict[str, Any]) -> bool:
        """Whether this is plain beam search with one of our models."""
        return (
            is_ours(self.model)
            and "src_tokens" in net_input
            and type(self.search) is BeamSearch
            and self.lm_model is None
            and self.repeat_ngram_blocker is None
            and not self.match_source_len
        )

    def longest(self, net_input: dict[str, Tensor], first: int) -> int:
        """How many words a hypothesis may have; and refuse what cannot be searched."""
        words = self.model.single_model.decoder.embed_tokens.num_embeddings
        src_len = net_input["src_tokens"].size(1)
        max_len = min(int(self.max_len_a * src_len + self.max_len_b), self.max_len - 1)
        assert self.min_len <= max_len, "min_len cannot be larger than max_len, please adjust these!"
        if not 0 <= first < words:
            raise IndexError(f"the word before the first is {first}, of {words} words")
        return max_len

    def search_at_once(self, net_input: dict[str, Tensor], first: int) -> list[list[Hypothesis]] | None:
        """Search in one call, encoder included, where it is known how.

        Args:
            net_input: fairseq's batch of sources.
            first: the word before the first.

        Returns:
            each sentence's hypotheses, the best first; or None
        """
        if not net_input.keys() <= {"src_tokens", "src_lengths", "prev_output_tokens"}:
            return None
        plan = self.plan(first, self.longest(net_input, first))
        found = self.model.single_model.decoder.search(net_input["src_tokens"], plan)
        return None if found is None else self.read(found)

    def plan(self, first: int, max_len: int) -> Plan:
        """What is searched for, as the kernel is told."""
        return Plan(
            *(self.beam_size, first, self.eos, self.min_len, max_len),
            *(self.changes(0), self.changes(self.min_len), self.temperature),
        )

    def read(self, found: Translations) -> list[list[Hypothesis]]:
        """What the kernel has found, in fairseq's form."""
        scores = self.normalise(found.scores, found.lengths)
        hypotheses = iter(_as_fairseq(found.words, found.lengths, scores, found.each, found.attention))
        return [_sorted(list(itertools.islice(hypotheses, number))) for number in found.found.tolist()]

    def search_by_steps(self, net_input: dict[str, Tensor], first: int) -> list[list[Hypothesis]]:
        """The same with a call for each step, for a decoder that keeps its cache as :class:`.Beams`."""
        decoder, beam = self.model.single_model.decoder, self.beam_size
        sentences, max_len = len(net_input["src_tokens"]), self.longest(net_input, first)
        (encoder_out,) = self.model.forward_encoder(net_input)
        state, history = Beams(sentences).state(), _History()
        found: list[list[int]] = [[] for _ in range(sentences)]
        live = list(range(sentences))
        words, scores = torch.full((sentences,), first), None
        over = torch.zeros(sentences, beam, dtype=torch.bool)
        for step in range(max_len + 1):
            logits, attention = decoder.advance(words, step, encoder_out, state)
            history.attention.append(attention)
            choice = best(
                logits,
                scores,
                over,
                self.eos,
                changes=self.changes(step),
                only=self.eos if step >= max_len else None,
                temperature=self.temperature,
            )
            finished = self.finish(choice, [found[sentence] for sentence in live], history, step == max_len)
            if len(finished) == len(live):
                break
            assert step < max_len, f"{step} < {max_len}"
            if finished:
                going = [place for place in range(len(live)) if place not in finished]
                live = [live[place] for place in going]
                choice = Choice(*(tensor[going] for tensor in vars(choice).values()))
            assert not choice.over.all(1).any()
            history.choices.append(choice)
            words, scores, over = choice.words.view(-1), choice.scores.view(-1), choice.over
            decoder.reorder_incremental_state_scripting(state, choice.rows.view(-1))
        hypotheses = history.read(self.eos, self.normalise)
        return [_sorted([hypotheses[number] for number in numbers]) for numbers in found]

    def finish(self, choice: Choice, found: list[list[int]], history: _History, last: bool) -> set[int]:
        """Keep what ends in this step; which sentences have as many hypotheses as they want."""
        finished = set()
        for place, which in (choice.end_scores > -math.inf).nonzero().tolist():
            if len(found[place]) < self.beam_size:
                row, score = choice.end_rows[place, which].item(), choice.end_scores[place, which].item()
                found[place].append(history.end(row, score))
            if len(found[place]) == self.beam_size or last:
                finished.add(place)
        return finished

    def normalise(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """The scores by which hypotheses of different lengths are compared."""
        return scores / (lengths.double() ** self.len_penalty).float() if self.normalize_scores else scores

    def changes(self, step: int) -> dict[int, float]:
        """What is added to the log-probabilities of some words in a step."""
        changes = {self.pad: -math.inf, self.unk: -self.unk_penalty}
        if step < self.min_len:
            changes[self.eos] = -math.inf
        if self.token_indices_to_suppress is not None:
            changes |= dict.fromkeys(self.token_indices_to_suppress.tolist(), -math.inf)
        return changes


@around(FairseqTask, "build_generator")
def build_generator(stock, self: FairseqTask, *args: Any, **kwargs: Any) -> Any:
    """Whatever fairseq builds; its plain generator of a model of ours becomes ours."""
    generator = stock(self, *args, **kwargs)
    if type(generator) is SequenceGenerator and is_ours(generator.model):
        generator.__class__ = QuickGenerator
    return generator
