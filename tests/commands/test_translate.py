"""fairseq-generate, fairseq-interactive, fairseq-score and the hub with this plugin."""

import pytest

from tests.support.commands import SIZES, USER_DIR, run, run_isolated

SENTENCES = SIZES["test"]


def generate(data, path, *more, run=run):
    return run("fairseq-generate", data, "--path", path, "--cpu", "--max-len-b=20", *more)


def hypotheses(finished) -> dict[str, list[str]]:
    """Translations by the number of the sentence, best first."""
    found = {}
    for line in finished.lines("H"):
        number, _, text = line.removeprefix("H-").split("\t")
        found.setdefault(number, []).append(text)
    return found


@pytest.fixture(scope="module")
def translated(data, trained):
    return generate(data, trained.checkpoint, run=run_isolated)


def test_every_sentence_is_translated_and_scored(translated):
    assert set(hypotheses(translated)) == {str(number) for number in range(SENTENCES)}
    assert "Generate test with beam=5: BLEU4 = " in translated.output


def test_nbest(data, trained, translated):
    found = hypotheses(generate(data, trained.checkpoint, "--beam=5", "--nbest=3"))
    assert {len(texts) for texts in found.values()} == {3}
    assert {n: texts[:1] for n, texts in found.items()} == hypotheses(translated)


def test_the_batch_size_changes_no_translation(data, trained, translated):
    assert hypotheses(generate(data, trained.checkpoint, "--batch-size=1")) == hypotheses(translated)


def test_an_ensemble_of_a_model_with_itself_is_the_model(data, trained, translated):
    twice = f"{trained.checkpoint}:{trained.checkpoint}"
    assert hypotheses(generate(data, twice)) == hypotheses(translated)


def test_an_ensemble_of_two_models(data, trained, translated):
    found = hypotheses(generate(data, f"{trained.checkpoint}:{trained.folder / 'checkpoint1.pt'}"))
    assert found.keys() == hypotheses(translated).keys()
    assert found != hypotheses(translated)


@pytest.mark.parametrize("flags", [("--sampling", "--beam=2", "--nbest=2"), ("--retain-dropout",)])
def test_randomness_follows_the_seed(data, trained, translated, flags):
    one, again = (hypotheses(generate(data, trained.checkpoint, *flags, "--seed=3")) for _ in range(2))
    assert one == again
    assert one != hypotheses(translated)


def test_diverse_beam_groups(data, trained):
    flags = ("--beam=4", "--nbest=4", "--diverse-beam-groups=4", "--batch-size=6")
    found = generate(data, trained.checkpoint, *flags)
    for texts in hypotheses(found).values():
        assert len({text.split(" ")[0] for text in texts}) > 1


def test_a_prefix_is_the_references(data, trained):
    finished = generate(data, trained.checkpoint, "--prefix-size=1", "--beam=2")
    references = dict(line.removeprefix("T-").split("\t") for line in finished.lines("T"))
    for number, (text,) in hypotheses(finished).items():
        assert text.split(" ")[0] in (references[number].split(" ")[0], "<unk>")


@pytest.mark.parametrize("flag", [["--print-alignment"], ["--print-alignment=soft"]])
def test_alignments(data, trained, flag):
    assert len(generate(data, trained.checkpoint, *flag).lines("A")) == SENTENCES


def test_score(tmp_path, translated):
    for kind, column in (("T", 1), ("D", 2)):
        lines = sorted(translated.lines(kind), key=lambda line: int(line.split("\t")[0][2:]))
        (tmp_path / kind).write_text("".join(line.split("\t")[column] + "\n" for line in lines))
    finished = run_isolated("fairseq-score", "--sys", tmp_path / "D", "--ref", tmp_path / "T")
    stated = next(line for line in translated.output.splitlines() if "BLEU4 = " in line)
    scored = next(line for line in finished.output.splitlines() if line.startswith("BLEU4 = "))
    assert scored.split("(")[0] in stated


def test_interactive(data, trained, texts, translated):
    text = (texts / "test.en").read_bytes()
    flags = ("--path", trained.checkpoint, "--cpu", "--max-len-b=20", "--buffer-size=4")
    finished = run_isolated("fairseq-interactive", data, *flags, stdin=text)
    assert hypotheses(finished) == hypotheses(translated)


@pytest.mark.parametrize(
    "model",
    [
        "fairseq.models.transformer import TransformerModel",
        "skipln_fairseq.models import SkipTransformerModel",
    ],
)
def test_from_python(data, trained, texts, translated, model):
    code = f"""
from {model} as Model
folders = {str(trained.folder)!r}, "checkpoint_last.pt", {str(data)!r}
model = Model.from_pretrained(*folders, user_dir={str(USER_DIR)!r})
for number, line in enumerate(open({str(texts / "test.en")!r}, encoding="utf-8")):
    print("H-%d" % number, 0, model.translate(line, max_len_b=20), sep="\\t")
"""
    finished = run("-c", code)
    assert hypotheses(finished) == hypotheses(translated)
