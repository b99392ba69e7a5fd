"""A checkpoint is data: loading one runs, imports and opens nothing, and one that is odd ends in one line."""

import copy
import time
from argparse import Namespace

import pytest
import torch
from fairseq.models.transformer import TransformerModel

from skipln_fairseq.average import average
from skipln_fairseq.common.errors import UserError
from tests.support.commands import run


@pytest.fixture(scope="module")
def stored(trained):
    state = torch.load(trained.checkpoint, weights_only=True)
    del state["last_optimizer_state"]
    return state


@pytest.fixture
def changed(stored, tmp_path):
    """Writes the checkpoint with changed flags of its model, or changed in any other way."""

    def write(change=None, old=False, **flags):
        state = copy.deepcopy(stored)
        vars(state["cfg"]["model"]).update(flags)
        if old:
            model = vars(state["cfg"]["model"])
            del model["_name"]
            state |= {"args": Namespace(**model), "cfg": None}
        if change:
            change(state)
        torch.save(state, tmp_path / "c.pt")
        return tmp_path / "c.pt"

    return write


def code(tmp_path):
    return f"__import__('pathlib').Path({str(tmp_path / 'pwned')!r}).touch() or [10, 20]"


def load(file, data):
    return TransformerModel.from_pretrained(str(file.parent), file.name, str(data))


def refused(file, data):
    """What is said, in one line and soon."""
    start = time.monotonic()
    with pytest.raises(UserError, match=r"c\.pt") as error:
        load(file, data)
    assert time.monotonic() - start < 60
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    return str(error.value)


@pytest.mark.parametrize("road", ["generate", "interactive", "validate", "probe", "ctranslate2"])
def test_a_flag_with_code_never_runs(tmp_path, data, changed, road):
    file = changed(adaptive_softmax_cutoff=code(tmp_path))
    command = {
        "generate": ("fairseq-generate", data, "--path", file, "--cpu"),
        "interactive": ("fairseq-interactive", data, "--path", file, "--cpu", "-s", "en", "-t", "de"),
        "validate": (
            "fairseq-validate",
            data,
            "--path",
            file,
            "--cpu",
            "--task=translation",
            "--batch-size=9",
        ),
        "probe": (
            "-m",
            "skipln_fairseq.probe",
            "--path",
            file,
            "--data",
            data,
            "--output",
            tmp_path / "probe",
        ),
        "ctranslate2": (
            *("-m", "skipln_fairseq.to_ctranslate2", "--path", file, "--data", data),
            *("--output-dir", tmp_path / "ct2"),
        ),
    }[road]
    finished = run(*command, succeeds=False, stdin=b"a b\n")
    (line,) = [line for line in finished.output.splitlines() if "skipln_fairseq: error:" in line]
    assert "c.pt: --adaptive-softmax-cutoff" in line
    assert "Traceback" not in finished.output
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("old", "flags", "named"),
    [
        (False, {"adaptive_softmax_cutoff": "CODE"}, "--adaptive-softmax-cutoff"),
        (True, {"adaptive_softmax_cutoff": "CODE"}, "--adaptive-softmax-cutoff"),
        (True, {"arch": "fconv", "encoder_layers": "CODE"}, "--encoder-layers"),
        (False, {"_name": "fconv", "encoder_layers": "CODE"}, "--encoder-layers"),
    ],
)
def test_from_pretrained_names_the_flag_with_code(tmp_path, data, changed, old, flags, named):
    flags = {name: code(tmp_path) if value == "CODE" else value for name, value in flags.items()}
    assert named in refused(changed(old=old, **flags), data)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("old", [False, True])
def test_a_good_checkpoint_loads_in_both_styles(data, changed, old):
    assert load(changed(old=old), data).models


@pytest.mark.parametrize(
    "change", [lambda cfg: cfg.pop("generation"), lambda cfg: cfg.update(generation=None)]
)
def test_without_flags_of_generation_fairseqs_own_stand(data, changed, change):
    assert load(changed(lambda state: change(state["cfg"])), data).translate("a b", beam=1)


def test_paths_of_training_are_not_followed(tmp_path, data, changed):
    (tmp_path / "module.py").write_text("raise SystemExit\n")
    file = changed(encoder_embed_path="/etc/passwd", user_dir=str(tmp_path / "module"))
    flags = load(file, data).cfg.model
    assert flags.encoder_embed_path is None
    assert flags.user_dir is None


@pytest.mark.parametrize(
    ("old", "flags", "said"),
    [
        (False, {"dropout": "${oc.env:HOME}"}, "dropout"),
        (True, {"lr": ["${oc.env:HOME}"]}, "lr"),
        (False, {"more": {"_target_": "os.system"}}, "_target_"),
        (False, {"_name": "../x"}, "model '../x'"),
        (True, {"arch": "../x"}, "arch '../x'"),
        (True, {"task": "x"}, "task 'x'"),
        (True, {"bpe": "../../x"}, "bpe"),
        (True, {"tokenizer": "os.system"}, "tokenizer"),
        (True, {"optimizer": "x"}, "optimizer"),
        (True, {"criterion": "x"}, "criterion"),
        (True, {"bpe": "gpt2", "gpt2_encoder_json": "http://localhost/x"}, "gpt2_encoder_json"),
        (False, {"encoder_layers": -3}, "encoder has 2 layers, and the model's 0"),
        (False, {"encoder_layers": 10**6}, "larger model"),
        (False, {"encoder_attention_heads": 3}, "divisible"),
        (False, {"encoder_embed_dim": 0, "decoder_embed_dim": 0}, "makes no model"),
        (False, {"encoder_embed_dim": 10**12, "decoder_embed_dim": 10**12}, "larger model"),
        (False, {"encoder_ffn_embed_dim": 10**7}, "larger model"),
        (False, {"max_source_positions": 6 * 10**7}, "larger model"),
        (False, {"skip_order": 10**9}, "larger model"),
        (False, {"skip_order": 10**9, "share_skip_norms": True}, "larger model"),
    ],
)
def test_flags_of_no_model_are_refused(data, changed, old, flags, said):
    assert said in refused(changed(old=old, **flags), data)


EMBEDDING = "encoder.embed_tokens.weight"


def _without(state):
    del state["model"][EMBEDDING]


def _number(state):
    state["model"][EMBEDDING] = 3


def _expanded(state):
    state["model"][EMBEDDING] = torch.zeros(1).expand(10**6, 10**6)


def _number_for_a_name(state):
    state["model"][3] = torch.ones(2)


def _sparse(state):
    state["model"][EMBEDDING] = state["model"][EMBEDDING].to_sparse()


def _meta(state):
    state["model"][EMBEDDING] = state["model"][EMBEDDING].to("meta")


def _quantised(state):
    state["model"][EMBEDDING] = torch.quantize_per_tensor(state["model"][EMBEDDING], 0.1, 0, torch.qint8)


def _nan(state):
    state["model"][EMBEDDING][3, 3] = float("nan")


def _list(state):
    state["cfg"] = [1, 2]


def _list_of_model(state):
    state["cfg"]["model"] = [1]


def _list_of_generation(state):
    state["cfg"]["generation"] = [1]


def _endless(state):
    state["cfg"]["more"] = state["cfg"]


def _tensor_for_all(state):
    state["model"] = torch.ones(3)


CHANGES = {
    _number: "no tensor",
    _expanded: "a part only",
    _number_for_a_name: "3 in the model is a int, and no name",
    _sparse: f"'{EMBEDDING}' is no plain tensor",
    _meta: f"'{EMBEDDING}' is no plain tensor",
    _quantised: f"'{EMBEDDING}' is no plain tensor",
    _nan: f"{EMBEDDING} holds NaN",
    _list: "cfg is a list",
    _list_of_model: "model is a list",
    _list_of_generation: "generation is a list",
    _endless: "without end",
    _tensor_for_all: "no checkpoint",
}


@pytest.mark.parametrize(("change", "said"), [*CHANGES.items(), (_without, "Missing key")])
def test_damaged_contents_are_refused(data, changed, change, said):
    assert said in refused(changed(change), data)


@pytest.mark.parametrize(("change", "said"), CHANGES.items())
def test_averaging_refuses_them_too(changed, change, said):
    with pytest.raises(UserError, match=said) as error:
        average([changed(change)])
    assert "\n" not in str(error.value)


def test_another_checkpoint_is_not_opened(data, changed):
    flags = {"_name": "fconv_self_att", "pretrained": "True", "pretrained_checkpoint": "other.pt"}
    assert "one more checkpoint, other.pt" in refused(changed(**flags), data)


def test_an_audit_hook_sees_no_load_do_more_than_read(tmp_path, data, trained):
    finished = run("-m", "tests.support.witness", trained.checkpoint, data, tmp_path, 25)
    assert "nothing but reading" in finished.output


def test_the_audit_hook_would_see_it(tmp_path, data, trained):
    arguments = (trained.checkpoint, data, tmp_path, 1, "evaluating")
    finished = run("-m", "tests.support.witness", *arguments, succeeds=False)
    assert "exec (<code object" in finished.output


@pytest.mark.slow
def test_an_audit_hook_sees_no_load_do_more_than_read_in_many_examples(tmp_path, data, trained):
    finished = run("-m", "tests.support.witness", trained.checkpoint, data, tmp_path, 400)
    assert "nothing but reading" in finished.output
