"""DropPath: F(x) of whole sentences is dropped, whatever the skip type and the placement."""

import pytest
import torch

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.nn import SKIPS, build_connection
from skipln_fairseq.nn.placement.res_post import ResPost
from skipln_fairseq.nn.valid import valid_norms, valid_placements
from tests.support.build import batch, build, wiring
from tests.support.commands import TRAIN, run

DIM, SENTENCES, RATE = 4, 40, 0.4
CASES = [(skip, place) for skip in SKIPS for place in valid_placements(skip, valid_norms(skip)[0])]


@pytest.mark.parametrize(("skip", "placement"), CASES)
def test_a_sentence_has_its_branch_or_none(skip, placement):
    torch.manual_seed(0)
    connection = build_connection(DIM, wiring(skip, valid_norms(skip)[0], placement, order=2)).double()
    for parameter in connection.parameters():
        torch.nn.init.uniform_(parameter, 0.5, 1.5)
    connection.drop_path = RATE
    f_x, x = torch.randn(2, 3, SENTENCES, DIM, dtype=torch.float64)
    branch = connection(f_x) if isinstance(connection, ResPost) else f_x
    kept, dropped = connection.join(branch / (1 - RATE), x), connection.join(0 * branch, x)
    found = connection.leave(f_x, x)
    has = torch.tensor([torch.allclose(found[:, n], kept[:, n]) for n in range(SENTENCES)])
    lost = torch.tensor([torch.allclose(found[:, n], dropped[:, n]) for n in range(SENTENCES)])
    assert torch.all(has | lost)
    if not torch.allclose(kept, dropped):  # some branches start at nothing
        assert abs(float(has.double().mean()) - (1 - RATE)) < 0.25
        assert not torch.any(has & lost)
    connection.eval()
    assert torch.equal(connection.leave(f_x, x), connection.join(branch, x))


def test_fused_and_reference_drop_the_same():
    logits = {}
    for kernels in ("fast", "reference"):
        flags = ("--drop-path", "0.5", "--dropout", "0", "--skip-type", "plain", "--kernels", kernels)
        model = build("transformer_rskip", *flags).train()
        torch.manual_seed(5)
        logits[kernels] = model(*batch())[0]
        assert not torch.allclose(logits[kernels], model.eval()(*batch())[0])
    torch.testing.assert_close(logits["fast"], logits["reference"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", ["1", "-0.1", "nan", "x"])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(
        UserError, match=f"--encoder-drop-path {value}: valid is a probability from 0, below 1"
    ):
        build("transformer_rskip", f"--encoder-drop-path={value}")


def test_a_side_overrides_both():
    model = build("transformer_rskip", "--drop-path", "0.3", "--decoder-drop-path", "0")
    assert model.encoder.layers[1].final_layer_norm.drop_path == 0.3
    assert model.decoder.layers[1].encoder_attn_layer_norm.drop_path == 0


def test_a_run_resumes_with_another_rate(data, tmp_path):
    flags = (*TRAIN[:-4], "--log-format", "json", "--log-interval", "1", "--save-dir", tmp_path)
    first = run("fairseq-train", data, *flags, "--drop-path", "0.2", "--max-update", "2").losses()
    rest = run("fairseq-train", data, *flags, "--drop-path", "0.1", "--max-update", "3").losses()
    assert [update for update, _ in first + rest] == ["1", "2", "3"]
