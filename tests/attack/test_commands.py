"""The attack: images that fool one model, tried on others."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipln_fairseq.attack import __main__ as attack
from skipln_fairseq.attack.transfer import Success, _names, load_classifiers, load_images, success
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.images import predict
from tests.support.image_commands import train, train_on_colours


def test_images_that_fool_one_model_are_tried_on_another(digits, tmp_path, monkeypatch):
    draw = attack._draw
    folder, _ = digits
    checkpoints = [str(folder / name / "checkpoint_best.pt") for name in ("rskip", "plain")]
    arguments = ["--source", checkpoints[0], "--targets", checkpoints[1], "--gammas", "1", "0.5"]
    arguments += ["--images", "60", "--epsilon", "0.2", "--step", "0.05", "--output", str(tmp_path)]
    pictures = {}
    monkeypatch.setattr(attack, "_draw", lambda file, shown: (pictures.update(shown), draw(file, shown)))
    attack.main(arguments)
    content = json.loads((tmp_path / "transfer.json").read_text())
    assert content["targets"] == ["rskip", "plain"]
    own, other = content["results"]["PGD"]
    assert own["of"] >= other["of"] > 20
    assert own["fooled"] / own["of"] > 0.9
    assert 0 < other["fooled"] <= other["of"]
    assert set(content["results"]) == {"PGD", "SGM γ = 0.5"}
    assert (tmp_path / "images.png").read_bytes().startswith(b"\x89PNG")
    lines = (tmp_path / "transfer.md").read_text().splitlines()
    assert lines[0] == "| attack | rskip (source) | plain |"
    for line, (name, found) in zip(lines[2:4], content["results"].items(), strict=True):
        cells = [f"{100 * one['fooled'] / one['of']:.1f} % of {one['of']}" for one in found]
        assert line == f"| {name} | {' | '.join(cells)} |"
    assert "60 images of digits, test; ε 0.2, 10 steps of 0.05" in lines[-1]
    assert lines[-1].endswith("γ decays all blocks but the first of each stage.")
    assert list(pictures) == ["clean", "PGD", "SGM γ = 0.5"]
    drawn, _ = load_images(*load_classifiers([Path(checkpoints[0])], None, "cpu"), "test", 60, 1)
    assert torch.equal(pictures["clean"], drawn[[0, 8, 16, 25, 33, 42, 50, 59]])  # from the first to the last
    for name in list(pictures)[1:]:
        assert 0.19 < (pictures[name] - pictures["clean"]).abs().max() < 0.2001
    assert not torch.equal(pictures["PGD"], pictures["SGM γ = 0.5"])
    again = tmp_path / "again"
    attack.main([*arguments[:-1], str(again)])
    assert json.loads((again / "transfer.json").read_text())["results"] == content["results"]
    without = dict(pictures)
    attack.main([*arguments, "--momentum", "1"])
    content = json.loads((tmp_path / "transfer.json").read_text())
    assert set(content["results"]) == {"MI", "SGM+MI γ = 0.5"}
    assert not torch.equal(pictures["MI"], without["PGD"])
    attack.main([*arguments, "--all-blocks"])
    assert torch.equal(pictures["PGD"], without["PGD"])
    assert not torch.equal(pictures["SGM γ = 0.5"], without["SGM γ = 0.5"])
    assert (tmp_path / "transfer.md").read_text().endswith("γ decays all blocks.\n")


def test_a_model_of_first_blocks_alone_says_how_they_are_decayed(tmp_path):
    train(tmp_path, "--depth", "8", "--max-update", "1")
    arguments = ["--source", str(tmp_path / "checkpoint_last.pt"), "--images", "5", "--steps", "1"]
    arguments += ["--gammas", "0.5", "--output", str(tmp_path / "out")]
    with pytest.raises(
        UserError, match="no residual branches to decay but each stage's first, see --all-blocks"
    ):
        attack.main(arguments)
    attack.main([*arguments, "--all-blocks"])


def test_a_picture_has_a_row_for_each_attack_and_a_column_for_each_image(tmp_path):
    red, blue = (
        torch.tensor(colour).view(1, 3, 1, 1).expand(2, 3, 4, 4) for colour in ([1.0, 0, 0], [0, 0, 1.0])
    )
    green = torch.tensor([0, 1.0, 0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    attack._draw(tmp_path / "a.png", {"clean": red, "PGD": torch.cat((green, blue[:1]))})
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    height, width = picture.shape[:2]
    places = {"red": [], "green": [], "blue": []}
    for channel, found in enumerate(places.values()):
        others = picture.sum(2) - picture[..., channel]
        rows, columns = np.nonzero((picture[..., channel] > 250) & (others < 5))
        found += [rows.mean() / height, columns.mean() / width, len(rows)]
    assert places["red"][0] < 0.5 < min(places["green"][0], places["blue"][0])
    assert places["green"][1] < places["blue"][1]
    assert places["red"][2] == pytest.approx(2 * places["blue"][2], rel=0.05)


def test_a_target_whose_own_images_are_gone_is_tried_on_the_source_s(digits, tmp_path):
    state = torch.load(digits[0] / "plain" / "checkpoint_best.pt", weights_only=False)
    state["cfg"]["task"].images = "gone"
    torch.save(state, tmp_path / "moved.pt")
    flags = ["--gammas", "1", "--images", "5", "--steps", "1", "--output", str(tmp_path / "out")]
    source = str(digits[0] / "rskip" / "checkpoint_best.pt")
    attack.main(["--source", source, "--targets", str(tmp_path / "moved.pt"), *flags])


def test_success_is_counted_over_what_both_get_right():
    """Five images of class 0."""
    source, target, changed = map(torch.tensor, ([0, 0, 0, 1, 0], [0, 0, 1, 0, 0], [1, 0, 1, 1, 2]))
    assert success(source, target, changed, torch.zeros(5)) == Success(fooled=2, of=3)


def test_checkpoints_of_one_folder_are_told_apart(digits, tmp_path):
    folder, _ = digits
    files = [str(folder / "plain" / f"checkpoint_{name}.pt") for name in ("best", "last")]
    flags = ["--gammas", "1", "--images", "5", "--steps", "1", "--output", str(tmp_path)]
    attack.main(["--source", files[0], "--targets", files[1], *flags])
    found = json.loads((tmp_path / "transfer.json").read_text())["targets"]
    assert found == ["checkpoint_best.pt", "checkpoint_last.pt"]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/one.pt"], ["a"]),
        (["one.pt"], ["one.pt"]),
        (["a/b/one.pt", "a/b/one.pt"], ["b", "b"]),
        (["a/b/c/one.pt", "a/d/c/one.pt"], ["b/c", "d/c"]),
        (["/a/one.pt", "/a/b/two.pt"], ["one.pt", "b/two.pt"]),
    ],
)
def test_checkpoints_are_called_what_tells_them_apart(files, names):
    assert _names([Path(file) for file in files]) == names


def test_models_of_other_images_are_refused(digits, tmp_path):
    folder, _ = digits
    (tmp_path / "colours").mkdir()
    other = train_on_colours(tmp_path)
    with pytest.raises(UserError, match="knows images of other channels than"):
        attack.main(["--source", str(folder / "plain" / "checkpoint_best.pt"), "--targets", str(other)])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gammas", "0"], "--gammas 0: valid is above 0 and at most 1"),
        (["--gammas", "1.5"], "--gammas 1.5"),
        (["--gammas", "x"], "--gammas x: valid is a number"),
        (["--epsilon", "0"], "--epsilon 0.0: valid is above 0"),
        (["--epsilon", "8/0"], "--epsilon 8/0: valid is a number"),
        (["--steps", "0"], "--steps 0: valid is a whole number"),
        (["--momentum", "-1"], "--momentum -1.0: valid is 0 or more"),
        (["--images", "0"], "--images 0: valid is a whole number"),
        (["--epsilon", "1e999"], "--epsilon 1e999: valid is a number"),
        (["--gammas", "1e999999999"], "--gammas 1e999999999: valid is a number"),
        (["--epsilon", "nan"], "--epsilon nan: valid is a number"),
        (["--gammas", "0.5", "0.50000001"], "--gammas 0.5 0.50000001: two are alike to six digits"),
        (["--seed", "-1"], "--seed -1: valid is 0 or more"),
        (["--output", __file__], "a file, and no folder"),
        (["--output", f"{__file__}/below"], "a file, and no folder"),
        (["--source", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
    ],
)
def test_numbers_out_of_range_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        attack.main(["--source", "none.pt", *flags])


def test_a_checkpoint_whose_weights_do_not_fit_is_refused_in_one_line(digits, tmp_path):
    state = torch.load(digits[0] / "plain" / "checkpoint_best.pt", weights_only=False)
    del state["model"]["net.fc.bias"]
    torch.save(state, tmp_path / "cut.pt")
    with pytest.raises(UserError, match=r"cut\.pt makes no model") as error:
        attack.main(["--source", str(tmp_path / "cut.pt")])
    assert "\n" not in str(error.value)


def test_a_file_of_something_else_is_refused_in_one_line(tmp_path):
    (tmp_path / "junk.pt").write_text("junk")
    torch.save({"model": {}}, tmp_path / "other.pt")
    for name in ("junk.pt", "other.pt"):
        with pytest.raises(UserError, match=rf"{name} is no checkpoint, or a damaged one"):
            attack.main(["--source", str(tmp_path / name)])


def test_a_translation_model_is_not_attacked(trained, tmp_path):
    """Nor are its data asked for."""
    state = torch.load(trained.checkpoint, weights_only=False)
    state["cfg"]["task"]["data"] = "gone"
    torch.save(state, tmp_path / "moved.pt")
    for main, flag in ((attack.main, "--source"), (predict.main, "--path")):
        with pytest.raises(UserError, match="a model of the task translation, and no model of images"):
            main([flag, str(tmp_path / "moved.pt"), "--output", str(tmp_path / "out")])
