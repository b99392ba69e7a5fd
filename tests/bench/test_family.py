"""The bench of the whole family."""

import json

import pytest

from skipln_fairseq.bench import family, lengths
from skipln_fairseq.bench.__main__ import main
from skipln_fairseq.bench.family import members as family_members
from skipln_fairseq.bench.shapes import SHAPES
from skipln_fairseq.bench.train_and_decode import SEARCHES, TrainAndDecodeJob
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.decoding.generator import QuickGenerator
from skipln_fairseq.models.family import declarations
from tests.support.benches import MINIATURE, SMALL

FAMILY = ("family", "--together", "2", *MINIATURE, "--batches", "1")


def family_runs(file):
    return json.loads(file.read_text())["heats"][0]["runs"]


def test_members_of_the_family_are_compared_with_post_ln_and_go_on_where_they_were_cut_off(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(family, "members", lambda: family_members()[:3])
    file = tmp_path / "family.json"
    groups = []

    def race(heat, contestants, *rest):
        groups.append([one.name for one in contestants])
        if len(groups) == 2:
            raise UserError("cut off")
        return measure(heat, contestants, *rest)

    measure = family.race
    monkeypatch.setattr(family, "race", race)
    with pytest.raises(UserError, match="cut off"):
        main([*FAMILY, "--output", str(file)])
    before = family_runs(file)
    main([*FAMILY, "--output", str(file)])
    names = [member.name for member in family_members()[:3]]
    assert groups == [["Post-LN", *names[:2]], *[["Post-LN", names[2]]] * 2]
    after = family_runs(file)
    assert after[0] == before[0]
    assert [run for run in after if run["contestant"] != names[2]] == before
    assert {run["contestant"] for run in after} == {"Post-LN", *names}
    ratios = [run["summary"]["time_ratio"][0] for run in after]
    assert ratios[0] == after[0]["summary"]["decode_ratio"][0] == 1
    assert ratios[1:] == sorted(ratios[1:])
    assert all(run["summary"]["decode_ratio"][0] > 0 for run in after)
    assert all(len(run["decode_seconds"]) == len(run["seconds"]) == 1 for run in after)

    groups.clear()
    monkeypatch.setattr(
        family,
        "race",
        lambda heat, contestants, *rest: groups.append(contestants) or after[:1] * len(contestants),
    )
    main([*FAMILY, "--output", str(file)])  # nothing was left over
    assert len(groups) == 2
    capsys.readouterr()
    main(["table", str(file), "--markdown"])
    assert "searches: 8 sentences, 5 hypotheses, 16 steps" in capsys.readouterr().out


def test_a_run_of_the_family_that_was_another_one_is_not_gone_on_with(tmp_path):
    file = tmp_path / "family.json"
    fresh = {
        "kind": "family",
        "command": "c",
        "settings": {"seed": 1},
        "lengths": "l",
        "plan": [["tiny"]] * 3,
    }
    fresh |= {"where": {"torch": "2", "date": "today"}, "heats": [], "done": 0}
    left = fresh | {"heats": ["some"], "done": 2, "where": {"torch": "2", "date": "yesterday"}}
    for change in (
        {},
        {"done": 3},
        {"settings": {"seed": 2}},
        {"plan": [["wmt"]] * 3},
        {"where": {"torch": "1"}},
    ):
        file.write_text(json.dumps(left | change))
        assert family._begun(file, fresh)["done"] == (0 if change else 2), change
    file.unlink()
    assert family._begun(file, fresh) is fresh


def test_every_search_of_a_member_has_the_same_number_of_steps(tmp_path):
    """In a model that was never trained, whatever ends its sentences."""
    flags = (
        *SHAPES["tiny"].flags,
        *SMALL[:6],
        "--encoder-attention-heads",
        "2",
        "--decoder-attention-heads",
        "2",
    )
    job = TrainAndDecodeJob(
        "Post-LN",
        (*flags, *family.POST_LN.flags),
        30,
        lengths.equal(6, 64),
        64,
        2,
        1,
        1,
        "cpu",
        str(tmp_path),
    )
    runner = job.runner()
    assert min(*runner.step(0), *runner.decode(0), *runner.decode(1)) > 0
    generator, models, samples = runner.search
    for sample in samples:
        found = runner.trainer.task.inference_step(generator, models, sample)
        assert len(found) == len(sample["net_input"]["src_tokens"]) == SEARCHES["sentences"]
        assert {len(one["tokens"]) for hypotheses in found for one in hypotheses} == {SEARCHES["steps"]}
        assert all(len(hypotheses) == SEARCHES["hypotheses"] for hypotheses in found)
    assert isinstance(generator, QuickGenerator)  # as fairseq-generate's with this user-dir
    assert not models[0].training
    assert runner.trainer.get_model().training


def test_what_walks_through_a_member_is_told():
    told = {member.series: member.stream for member in family_members()}
    assert [told[name] for name in ("plain", "recursive", "keel", "ds", "rms")] == ["one"] * 5
    assert [told[name] for name in ("hyper", "siamese", "dual", "mhc")] == ["several"] * 4
    assert told["b2t"] == told["span"] == "one, and an earlier one"
    assert told["frac"] == "one, in parts"
    assert told["dlcl"] == "one, and earlier ones"
    assert told["rk4"] == "one, blocks again"


def test_every_variant_is_a_member():
    assert [member.series for member in family_members()] == [variant.choice for variant in declarations()]
