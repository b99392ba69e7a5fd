"""The mean of checkpoints, and everything that has no mean."""

import errno
import os
from argparse import Namespace

import pytest
import torch

from skipln_fairseq.average.__main__ import main
from skipln_fairseq.common.errors import UserError
from tests.support.commands import SIZES, run, run_isolated


def save(path, **more):
    """A checkpoint as fairseq writes it, as far as averaging looks; *more* is the model's parameters."""
    flags = {"arch": "transformer_rskip_tiny", "_name": "transformer_rskip_tiny", "dropout": 0.1}
    flags |= {"encoder_attention_heads": 4, "skip_type": "recursive"} | more.pop("flags", {})
    state = {"args": None, "cfg": {"model": Namespace(**flags), "common": {"seed": 1}}, "model": more}
    torch.save(
        state | {"extra_state": {"epoch": path.stem}, "last_optimizer_state": {"m": torch.ones(9)}}, path
    )
    return path


def average(*inputs, output, **flags):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    main(["--inputs", *map(str, inputs), "--output", str(output), *flags])
    return torch.load(output, weights_only=True)


@pytest.fixture
def two(tmp_path):
    return [save(tmp_path / f"{x}.pt", w=torch.tensor([x, 2.0 * x])) for x in (1, 4)]


def test_hand_computed_mean(tmp_path):
    files = [
        save(tmp_path / f"{x}.pt", w=torch.tensor([[x, 0.5]]), b=torch.tensor(x * x)) for x in (1.0, 2.0, 6.0)
    ]
    model = average(*files, output=tmp_path / "mean.pt")["model"]
    assert model["w"].tolist() == [[3.0, 0.5]]
    assert model["b"].item() == pytest.approx(41 / 3, abs=1e-6)
    assert model["w"].dtype == torch.float32


def test_half_precision_is_summed_and_kept_in_more(tmp_path):
    """In float16 the sum overflows at 65504, and the mean 1 + 2⁻¹¹ has no number of its own."""
    values = ([40000.0, 1.0], [40000.0, 1.0 + 2**-10])
    files = [save(tmp_path / f"{i}.pt", w=torch.tensor(w, dtype=torch.float16)) for i, w in enumerate(values)]
    w = average(*files, output=tmp_path / "mean.pt")["model"]["w"]
    assert w.dtype == torch.float32
    assert w.tolist() == [40000.0, 1 + 2**-11]


def test_float64_stays_float64(tmp_path):
    files = [save(tmp_path / f"{i}.pt", w=torch.tensor([i], dtype=torch.float64) / 3) for i in (1, 2)]
    assert average(*files, output=tmp_path / "mean.pt")["model"]["w"].tolist() == [0.5]


def test_float32_sums_do_not_drift(tmp_path):
    files = [save(tmp_path / f"{i}.pt", w=torch.tensor([w])) for i, w in enumerate((2.0**24, 1.0, 1.0, 2.0))]
    assert average(*files, output=tmp_path / "mean.pt")["model"]["w"].item() == (2**24 + 4) / 4


def test_integers_are_the_last_files(tmp_path):
    files = [save(tmp_path / f"{i}.pt", n=torch.tensor(i), flag=torch.tensor(i > 1)) for i in (1, 4)]
    model = average(*files, output=tmp_path / "mean.pt")["model"]
    assert (model["n"].item(), model["n"].dtype, model["flag"].item()) == (4, torch.int64, True)


def test_random_features_are_the_last_files(tmp_path):
    """The mean of two draws is no draw."""
    name = "decoder.layers.0.self_attn.favor.features.projection"
    files = [
        save(tmp_path / f"{i}.pt", **{name: torch.tensor([i]), "w": torch.tensor([i])}) for i in (1.0, 4.0)
    ]
    model = average(*files, output=tmp_path / "mean.pt")["model"]
    assert (model[name].item(), model["w"].item()) == (4.0, 2.5)


def test_the_rest_is_the_last_files_without_its_optimizer(tmp_path, two):
    state = average(*two, output=tmp_path / "mean.pt")
    assert state["cfg"]["model"].skip_type == "recursive"
    assert state["extra_state"] == {"epoch": "4"}
    assert "last_optimizer_state" not in state


def test_the_newest_of_a_folder(tmp_path):
    for epoch in (1, 2, 9, 10, 11):
        save(tmp_path / f"checkpoint{epoch}.pt", w=torch.tensor(float(epoch)))
        save(tmp_path / f"checkpoint_{epoch}_{epoch * 100}.pt", w=torch.tensor(epoch * 100.0))
    for name in ("best", "last", "_best_9.5"):
        save(tmp_path / f"checkpoint_{name}.pt", w=torch.tensor(-1.0))

    def mean(**flags):
        return average(tmp_path, output=tmp_path / "mean.pt", **flags)["model"]["w"].item()

    assert mean(num_epoch_checkpoints=2) == 10.5
    assert mean(num_epoch_checkpoints=2, checkpoint_upper_bound=10) == 9.5
    assert mean(num_update_checkpoints=2) == 1050
    assert mean(num_update_checkpoints=3, checkpoint_upper_bound=999) == 400
    with pytest.raises(UserError, match=r"6 checkpoints asked for, but .* has 5 named like checkpoint7\.pt"):
        mean(num_epoch_checkpoints=6)
    with pytest.raises(UserError, match="0 checkpoints asked for"):
        mean(num_epoch_checkpoints=0)


def test_two_checkpoints_of_one_number_are_not_taken_for_one(tmp_path):
    """As a second training leaves them in the folder of the first."""
    for name, value in (("1_100", 1.0), ("2_100", 2.0), ("2_200", 4.0), ("3_300", 8.0)):
        save(tmp_path / f"checkpoint_{name}.pt", w=torch.tensor(value))
    mean = average(tmp_path, output=tmp_path / "mean.pt", num_update_checkpoints=2)
    assert mean["model"]["w"].item() == 6.0
    for count in (3, 4):
        refused(
            tmp_path,
            output=tmp_path / "m.pt",
            message=r"checkpoint_1_100\.pt and .*checkpoint_2_100\.pt have one number",
            num_update_checkpoints=count,
        )


def refused(*inputs, output, message, **flags):
    before = {file: file.read_bytes() for file in output.parent.iterdir()}
    with pytest.raises(UserError, match=message) as error:
        average(*inputs, output=output, **flags)
    assert "\n" not in str(error.value)
    assert before == {file: file.read_bytes() for file in output.parent.iterdir()}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"w": torch.ones(2), "extra": torch.ones(1)}, r"extra is None in one and \[1\] in the other"),
        ({}, r"w is \[2\] in one and None in the other"),
        ({"w": torch.ones(3)}, r"w is \[2\] in one and \[3\] in the other"),
        ({"w": torch.ones(2), "flags": {"arch": "transformer"}}, "arch is transformer_rskip_tiny in one"),
        ({"w": torch.ones(2), "flags": {"skip_type": "plain"}}, "skip_type is recursive in one and plain"),
        (
            {"w": torch.ones(2), "flags": {"encoder_attention_heads": 2}},
            "encoder_attention_heads is 4 in one",
        ),
    ],
)
def test_different_models_are_refused(tmp_path, two, other, message):
    save(tmp_path / "other.pt", **other)
    refused(*two, tmp_path / "other.pt", output=tmp_path / "mean.pt", message=f"different models: {message}")


def test_image_models_of_other_classes_are_refused(tmp_path):
    files = []
    for name, classes in (("a", ["cat"] * 99), ("b", ["dog"] * 99), ("c", ["cat"] * 99)):
        files.append(save(tmp_path / f"{name}.pt", w=torch.ones(2)))
        state = torch.load(files[-1], weights_only=False)
        state["task_state"] = {"images": {"classes": classes}, "division": {"data-seed": name}}
        torch.save(state, files[-1])
    message = r"different models: classes is \['cat', .*… in one and \['dog', .*… in the other"
    refused(*files[:2], output=tmp_path / "mean.pt", message=message)
    average(files[0], files[2], output=tmp_path / "mean.pt")


def test_infinities_of_both_signs_have_no_mean(tmp_path):
    files = [save(tmp_path / f"{sign}.pt", w=torch.tensor([sign * torch.inf, 1.0])) for sign in (1, -1)]
    refused(*files, output=tmp_path / "mean.pt", message="w has no mean: infinities of both signs")


def test_a_table_with_two_names_stays_one(tmp_path):
    """As shared embeddings have them: the file would grow by a table."""
    files = []
    for value in (1.0, 3.0):
        table = torch.full((2, 3), value)
        parameters = {"embed": table, "output": table, "row": table[0], "other": table.clone()}
        files.append(save(tmp_path / f"{value}.pt", **parameters))
    model = average(*files, output=tmp_path / "mean.pt")["model"]
    assert all(value.eq(2).all() for value in model.values())
    assert model["embed"].data_ptr() == model["output"].data_ptr()
    assert len({model[name].untyped_storage().data_ptr() for name in ("embed", "row", "other")}) == 3


def test_models_that_were_only_trained_otherwise_are_averaged(tmp_path, two):
    save(tmp_path / "other.pt", w=torch.ones(2), flags={"dropout": 0.3, "save_dir": "x"})
    average(*two, tmp_path / "other.pt", output=tmp_path / "mean.pt")


def test_an_output_that_is_an_input_is_refused(tmp_path, two):
    refused(*two, output=two[0], message="is also an input")
    (tmp_path / "link.pt").symlink_to(two[1])
    refused(*two, output=tmp_path / "link.pt", message="is also an input")


def test_an_output_that_is_a_folder_is_refused(tmp_path, two):
    with pytest.raises(UserError, match="is a folder: name a file in it"):
        average(*two, output=tmp_path)


def test_inputs_that_are_no_checkpoints_are_refused(tmp_path, two):
    (tmp_path / "text.pt").write_text("text")
    torch.save({"w": torch.ones(2)}, tmp_path / "tensors.pt")
    torch.save({"model": {"w": torch.ones(2)}}, tmp_path / "flagless.pt")
    for name in ("text", "tensors", "flagless"):
        refused(
            *two, tmp_path / f"{name}.pt", output=tmp_path / "m.pt", message=f"{name}.pt is no checkpoint"
        )
    refused(*two, tmp_path / "none.pt", output=tmp_path / "m.pt", message=r"none\.pt does not exist")
    refused(tmp_path, output=tmp_path / "m.pt", message="is a folder: say how many")
    refused(*two, output=tmp_path / "m.pt", message="need one folder", num_epoch_checkpoints=2)
    refused(*two, output=tmp_path / "m.pt", message="upper-bound needs", checkpoint_upper_bound=2)


def test_a_folder_for_the_output_that_is_not_there(tmp_path, two):
    with pytest.raises(UserError, match="no such folder"):
        average(*two, output=tmp_path / "none" / "mean.pt")


def test_a_failing_disk_leaves_the_old_output_and_nothing_else(tmp_path, two, monkeypatch):
    output = tmp_path / "mean.pt"
    output.write_text("old")

    def fail(state, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(UserError, match=r"mean\.pt: No space left on device"):
        main(["--inputs", *map(str, two), "--output", str(output)])
    assert output.read_text() == "old"
    assert {file.name for file in tmp_path.iterdir()} == {"1.pt", "4.pt", "mean.pt"}


def test_the_command_averages_a_run_and_fairseq_translates_with_it(tmp_path, data, trained):
    mean = tmp_path / "mean.pt"
    flags = ("--inputs", trained.folder, "--num-epoch-checkpoints", 2, "--output", mean)
    run_isolated("-m", "skipln_fairseq.average", *flags)
    states = [torch.load(trained.folder / f"checkpoint{epoch}.pt", weights_only=True) for epoch in (2, 3)]
    for name, value in torch.load(mean, weights_only=True)["model"].items():
        torch.testing.assert_close(value, (states[0]["model"][name] + states[1]["model"][name]) / 2)
    translated = run("fairseq-generate", data, "--path", mean, "--cpu", "--max-len-b=20")
    assert len(translated.lines("H")) == SIZES["test"]


def test_the_command_refuses_in_one_line(tmp_path, two):
    os.truncate(two[1], 300)
    finished = run(
        "-m", "skipln_fairseq.average", "--inputs", *two, "--output", tmp_path / "mean.pt", succeeds=False
    )
    assert finished.status == 1
    assert finished.output.startswith("skipln_fairseq: error: ")
    assert finished.output.count("\n") == 1
