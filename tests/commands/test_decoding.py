"""Quick decoding through fairseq's commands, and the export to CTranslate2."""

import pytest
from fairseq import options

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.to_ctranslate2 import check
from skipln_fairseq.to_ctranslate2.__main__ import main
from tests.support.build import build, parse
from tests.support.commands import SIZES, TRAIN, run

GENERATE = ("--cpu", "--max-len-b=20", "--beam=4")


def hypotheses(finished):
    lines = [line.removeprefix("H-").split("\t") for line in finished.lines("H")]
    return {number: (text, float(score)) for number, score, text in lines}


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """A checkpoint with the plain skip."""
    folder = tmp_path_factory.mktemp("plain")
    run("fairseq-train", data, *TRAIN, "--skip-type", "plain", "--save-dir", folder, "--max-epoch=3")
    return folder / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def stock(data, tmp_path_factory):
    """A checkpoint of fairseq's own transformer."""
    folder = tmp_path_factory.mktemp("stock")
    run("fairseq-train", data, *TRAIN, "--arch", "transformer_iwslt_de_en", "--encoder-layers=1", "--decoder-layers=1",
        "--save-dir", folder)  # fmt: skip
    return folder / "checkpoint_last.pt"


def test_reference_and_fast_print_the_same(data, trained):
    """Every line, and scores within what is printed of them."""
    found = [
        hypotheses(run("fairseq-generate", data, "--path", trained.checkpoint, *GENERATE, *more))
        for more in ((), ("--model-overrides", "{'kernels': 'reference'}"))
    ]
    assert len(found[0]) == SIZES["test"]
    assert {n: text for n, (text, _) in found[0].items()} == {n: text for n, (text, _) in found[1].items()}
    assert max(abs(found[0][n][1] - found[1][n][1]) for n in found[0]) < 1e-4


@pytest.mark.parametrize("flag", ["--int8", "--bf16"])
def test_lower_precision_translates(data, trained, flag):
    exact = hypotheses(run("fairseq-generate", data, "--path", trained.checkpoint, *GENERATE))
    near = hypotheses(run("fairseq-generate", data, "--path", trained.checkpoint, *GENERATE, flag))
    assert exact.keys() == near.keys()
    assert near != exact
    assert max(abs(near[n][1] - exact[n][1]) for n in exact) < 0.2
    text = run("fairseq-interactive", data, "--path", trained.checkpoint, *GENERATE, flag, stdin=b"a b\n")
    assert len(text.lines("H")) == 1


def test_one_type_at_a_time(data, trained):
    finished = run("fairseq-generate", data, "--path", trained.checkpoint, "--int8", "--bf16", succeeds=False)
    assert "--int8 and --bf16: one type at a time" in finished.output


@pytest.mark.parametrize("text", ["foo", "{", "", "[1]", "1", "{1: f(2)}", "9" * 5000])
@pytest.mark.parametrize("parser", [options.get_generation_parser, options.get_eval_lm_parser])
def test_overrides_that_are_no_dictionary_are_refused_in_one_line(parser, text):
    with pytest.raises(UserError, match=r"--model-overrides .*: valid is a dictionary") as error:
        options.parse_args_and_arch(parser(), ["data", "--model-overrides", text])
    assert "\n" not in str(error.value)


def test_the_type_is_added_to_the_overrides():
    def overrides(*flags):
        return options.parse_args_and_arch(options.get_generation_parser(), ["data", *flags]).model_overrides

    assert overrides("--int8", "--model-overrides", "{'a': 1}") == "{'a': 1, 'inference_type': 'int8'}"
    assert (
        overrides("--int8", "--model-overrides", "{'inference_type': 'int8'}") == "{'inference_type': 'int8'}"
    )
    with pytest.raises(UserError, match=r"--int8 and --model-overrides .*: one type at a time"):
        overrides("--int8", "--model-overrides", "{'inference_type': 'bf16'}")


def test_a_stock_model_is_not_passed_over(data, stock):
    finished = run("fairseq-generate", data, "--path", stock, "--int8", "--cpu", succeeds=False)
    assert (
        "--int8 and --bf16 are for the models of skipln_fairseq, not for TransformerModel" in finished.output
    )
    assert len(run("fairseq-generate", data, "--path", stock, *GENERATE).lines("H")) == SIZES["test"]


def test_other_commands_refuse_the_type(data, trained):
    finished = run("fairseq-validate", data, "--path", trained.checkpoint, "--task=translation", "--bf16", "--cpu",
                   succeeds=False)  # fmt: skip
    assert "--bf16 is for training and decoding; this command computes in float32" in finished.output


def test_ctranslate2_translates_the_same(data, plain, tmp_path):
    ctranslate2 = pytest.importorskip("ctranslate2")
    output = tmp_path / "exported"
    run(
        "-m",
        "skipln_fairseq.to_ctranslate2",
        "--path",
        plain,
        "--data",
        data,
        "--output-dir",
        output,
        user_dir=None,
    )
    found = run("fairseq-generate", data, "--path", plain, *GENERATE)
    sources = dict(line.removeprefix("S-").split("\t") for line in found.lines("S"))
    translator = ctranslate2.Translator(str(output), intra_threads=1)
    wanted = hypotheses(found)
    for number, text in sources.items():
        words = text.replace("<<unk>>", "<unk>").split(" ")
        (translation,) = translator.translate_batch([words], beam_size=4, max_decoding_length=20)
        assert " ".join(translation.hypotheses[0]) == wanted[number][0]


def test_the_export_writes_all_or_nothing(data, trained, plain, tmp_path):
    def export(*flags):
        main(["--data", str(data), *map(str, flags)])

    with pytest.raises(UserError, match="CTranslate2 has no recursive skip, as in the encoder"):
        export("--path", trained.checkpoint, "--output-dir", tmp_path / "a")
    with pytest.raises(UserError, match="does not exist"):
        export("--path", tmp_path / "none.pt", "--output-dir", tmp_path / "a")
    with pytest.raises(UserError, match="--quantization int4: valid are int8"):
        export("--path", plain, "--output-dir", tmp_path / "a", "--quantization", "int4")
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="exists"):
        export("--path", plain, "--output-dir", tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


REFUSED = {
    "--skip-type expanded --skip-scale 2": "expanded skip",
    "--skip-type plain --skip-norm rms": "rms norm",
    "--skip-type plain --norm-placement sandwich": "norms placed sandwich",
    "--skip-type plain --attention-type favor": "favor attention",
    "--skip-type plain --encoder-normalize-before": "placements that differ",
    "--skip-type plain --activation-fn tanh": "activation tanh",
    "--skip-type plain --quant-noise-pq 0.1": "linear map after the embedding, as --quant-noise-pq puts it",
    "--skip-type plain --encoder-layers 0": "encoder without layers",
    "--skip-type plain --decoder-layers 0": "decoder without layers",
    "--skip-type plain --no-cross-attention": "counterpart of --no-cross-attention",
    "--skip-type plain --no-token-positional-embeddings": "model without positions",
    "--skip-type plain --decoder-output-dim 12": "embeddings of another width than the layers",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_what_ctranslate2_has_not_is_refused(flags):
    with pytest.raises(UserError, match=f"CTranslate2 has no {REFUSED[flags]}"):
        check(build("transformer_rskip", *flags.split()), parse("transformer_rskip", *flags.split()))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lang_tok_replacing_bos_eos", True, "counterpart of --lang-tok-replacing-bos-eos"),
        (
            "task",
            "translation_from_pretrained_bart",
            "sentences that end as those of --task translation_from_pretrained_bart",
        ),
    ],
)
def test_sentences_that_ctranslate2_would_end_otherwise_are_refused(name, value, message):
    args = parse("transformer_rskip", "--skip-type", "plain")
    check(build("transformer_rskip", "--skip-type", "plain"), args)
    setattr(args, name, value)
    with pytest.raises(UserError, match=f"CTranslate2 has no {message}"):
        check(build("transformer_rskip", "--skip-type", "plain"), args)


@pytest.mark.parametrize(
    "flags", ["--skip-type plain", "--skip-order 1", "--skip-type plain --norm-placement pre"]
)
def test_what_ctranslate2_has_is_let_through(flags):
    check(build("transformer_rskip", *flags.split()), parse("transformer_rskip", *flags.split()))
