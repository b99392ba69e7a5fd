"""The kernels of a decoding step against torch's operations."""

import math

import pytest
import torch

from skipln_fairseq.nn.kernels.decode import Records, attend, best, fits

pytestmark = pytest.mark.skipif(not fits(torch.zeros(1)), reason="no C compiler")


def oracle_of_attention(query, tensors, key, value, table, heads):
    rows, dim = query.shape
    out, weights = torch.zeros(rows, dim).double(), torch.zeros(heads, rows, len(tensors)).double()
    for row in range(rows):
        seen = [t for t in range(len(tensors)) if table[row, t] >= 0]
        for h, part in enumerate(torch.arange(dim).chunk(heads)):
            if not seen:
                continue
            records = torch.stack([tensors[t][table[row, t]] for t in seen]).double()
            scores = records[:, key + part] @ query[row, part].double() / math.sqrt(len(part))
            weights[h, row, seen] = scores.softmax(0)
            out[row, part] = scores.softmax(0) @ records[:, value + part]
    return out, weights


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize(
    ("rows", "heads", "dim", "positions"), [(1, 1, 8, 1), (5, 2, 24, 3), (19, 4, 64, 17)]
)
def test_attention_to_records(rows, heads, dim, positions, dtype, bound, threads, torch_threads):
    torch_threads(threads)
    torch.manual_seed(1)
    tensors = [torch.randn(rows + t % 3, 3 * dim).to(dtype) for t in range(positions)]
    table = torch.randint(-1, rows, (rows, positions), dtype=torch.int32)
    table[-1] = -1
    records = Records(dim, 2 * dim)
    for tensor in tensors:
        records.append(tensor)
    query = torch.randn(rows, 2 * dim).to(dtype)[:, :dim]
    out, weights = attend(query, records, table, heads, weights=True)
    expected, expected_weights = oracle_of_attention(query, tensors, dim, 2 * dim, table, heads)
    assert out.dtype == dtype
    assert (out.double() - expected).abs().max() <= bound
    assert (weights.double() - expected_weights).abs().max() <= 2e-6
    assert out[-1].eq(0).all()
    assert attend(query, records, table, heads)[1] is None


def test_scores_far_apart_do_not_overflow():
    records = Records(0, 4)
    for sign in (1, -1, 1):
        records.append(torch.full((1, 8), 60.0 * sign))
    out, weights = attend(
        torch.full((1, 4), 60.0), records, torch.zeros(1, 3, dtype=torch.int32), 1, weights=True
    )
    assert weights.flatten().tolist() == [0.5, 0, 0.5]
    assert out.eq(60).all()


@pytest.mark.parametrize(
    ("key", "positions"), [(1e38, 1), (-1e38, 1), (-1e38, 3), (math.nan, 1), (math.nan, 3)]
)
def test_scores_that_overflow_stay_visible(key, positions):
    """All infinite or not numbers, in the last of these positions at least; before it nothing is attended to."""
    records = Records(0, 4)
    for _ in range(positions):
        records.append(torch.cat((torch.full((2, 4), key), torch.ones(2, 4)), 1))
    table = torch.tensor([[-1] * (positions - 1) + [1], [-1] * positions], dtype=torch.int32)
    out, weights = attend(torch.full((2, 4), 60.0), records, table, 1, weights=True)
    assert out[0].isnan().all()
    assert weights[0, 0].isnan().all()
    assert out[1].eq(0).all()
    assert weights[0, 1].eq(0).all()


def test_one_score_that_is_not_a_number_leaves_none():
    records = Records(0, 4)
    for key in (1.0, math.nan, 2.0):
        records.append(torch.cat((torch.full((1, 4), key), torch.ones(1, 4)), 1))
    out, weights = attend(torch.ones(1, 4), records, torch.zeros(1, 3, dtype=torch.int32), 1, weights=True)
    assert out.isnan().all()
    assert weights.isnan().all()


def chosen(choice):
    return [tensor.tolist() for tensor in vars(choice).values()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("sentences", "hypotheses", "beam", "words"), [(3, 1, 4, 9), (2, 3, 3, 200), (4, 5, 5, 999)]
)
def test_the_best_are_those_of_log_softmax(sentences, hypotheses, beam, words, dtype):
    torch.manual_seed(words)
    logits = (4 * torch.randn(sentences * hypotheses, words)).to(dtype)
    before = torch.randn(sentences * hypotheses)
    changes = {1: -math.inf, 3: -2.0, words - 3: 40.0}
    over = torch.zeros(sentences, beam, dtype=torch.bool)
    choice = best(logits, before, over, words - 1, changes=changes, temperature=0.8)
    scores = (logits.double() / 0.8).log_softmax(-1)
    for word, change in changes.items():
        scores[:, word] += change
    scores = (scores + before[:, None]).view(sentences, -1)
    top, places = scores.topk(min(2 * beam, hypotheses * words - 1))
    for sentence in range(sentences):
        going = [
            (score, place)
            for score, place in zip(top[sentence], places[sentence], strict=True)
            if place % words != words - 1
        ][:beam]
        torch.testing.assert_close(
            choice.scores[sentence].double(), torch.stack([score for score, _ in going]), rtol=0, atol=1e-5
        )
        if dtype == torch.float32:  # halves tie
            assert choice.words[sentence].tolist() == [int(place % words) for _, place in going]
            rows = [sentence * hypotheses + int(place // words) for _, place in going]
            assert choice.rows[sentence].tolist() == rows
        ends = [
            score
            for score, place in zip(top[sentence][:beam], places[sentence], strict=False)
            if place % words == words - 1
        ]
        assert (choice.end_scores[sentence] > -math.inf).sum() == len(ends)
    assert over.eq(False).all()  # it is the caller's


def test_one_word_only():
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    choice = best(logits, None, torch.zeros(1, 1, dtype=torch.bool), 2, changes={}, only=2)
    expected = logits.log_softmax(-1)[0, 2]
    assert choice.end_scores.item() == pytest.approx(expected.item(), abs=1e-6)
    assert choice.scores.tolist() == [[float("-inf")]]


def test_what_ended_before_neither_ends_again_nor_goes_on_while_others_do():
    logits = torch.tensor([[5.0, 0.0, 4.0, 3.0, -5.0]])
    over = torch.tensor([[True, False]])
    choice = best(logits, None, over, 0, changes={})
    assert choice.end_scores.tolist() == [
        [-math.inf, -math.inf]
    ]  # word 0 is the best, and its hypothesis is over
    assert choice.words.tolist() == [[2, 3]]
    assert choice.over.tolist() == [[False, False]]


def test_not_a_number_is_never_chosen():
    logits = torch.tensor([[math.nan, 1.0, 2.0], [0.0, 1.0, 2.0]])
    choice = best(logits, torch.zeros(2), torch.zeros(1, 2, dtype=torch.bool), 0, changes={})
    assert choice.rows.tolist() == [[1, 1]]


def test_of_equal_continuations_the_earlier_goes_on():
    """Of one row by the number of their words, then by rows; also where the list is full, and in other spans."""

    def over(beam):
        return torch.zeros(1, beam, dtype=torch.bool)

    logits = torch.zeros(2, 150)
    choice = best(logits, torch.zeros(2), over(2), 149, changes={})
    assert (choice.words.tolist(), choice.rows.tolist()) == ([[0, 1]], [[0, 0]])
    logits[:, [20, 70, 140]] = 9.0
    choice = best(logits, torch.zeros(2), over(4), 149, changes={})
    assert (choice.words.tolist(), choice.rows.tolist()) == ([[20, 70, 140, 20]], [[0, 0, 0, 1]])
    choice = best(torch.tensor([[5.0] + 149 * [0.0]]), None, over(1), 0, changes={})
    assert choice.words.tolist() == [[1]]


def test_what_is_forbidden_does_not_end():
    """Where nothing else is left in its place either."""
    changes = {1: -math.inf, 2: -math.inf}
    choice = best(torch.ones(1, 3), None, torch.zeros(1, 2, dtype=torch.bool), 0, changes=changes)
    assert choice.over.tolist() == [[False, True]]
    assert choice.scores[0, 0] == -math.inf
