"""Text that fairseq evaluates is read as data."""

import ast
import importlib
import tracemalloc
from pathlib import Path

import fairseq
import pytest

import skipln_fairseq  # noqa: F401  (applies the workarounds)
from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.evaluated import MODULES, literal
from tests.support.build import ADAPTIVE_LOSS
from tests.support.commands import TRAIN, run


@pytest.mark.parametrize(
    "text",
    [
        *(
            "[(512, 3)] * 20",
            "10000,20000",
            "[(512, 3)]*4 + [(1024, 3)]*3",
            "3 * [1]",
            "(0.9, 0.999)",
            "1e-4",
        ),
        *("True", "None", "-1", "2 * 3 - 1", "7 // 2 / 2", "{'a': [1]}", " 5 ", "'text'"),
    ],
)
def test_literals_and_their_arithmetic_are_what_python_makes_of_them(text):
    assert literal(text) == eval(text.strip())


@pytest.mark.parametrize(
    "text",
    [
        *(
            "__import__('os').system('x')",
            "open",
            "x.y",
            "(lambda: 1)()",
            "[i for i in (1, 2)]",
            "f'{1}'",
            "1 if 2 else 3",
        ),
        *(
            "[[0] * 1000] * 1000",
            "[0] * 10**9",
            "9 ** 9 ** 9",
            "10000000000 * 10000000000",
            "'x' * 9",
            "1 / 0",
        ),
        *(
            "(" * 9999,
            "[" * 9999,
            "1+" * 40000 + "1",
            "",
            "1 +",
            "a\0b",
            "9" * 5000,
            "1 + 'a'",
            "{**{}}",
            "~1",
            "1 < 2",
        ),
    ],
)
def test_all_else_is_refused_in_one_line(text):
    with pytest.raises(UserError, match="valid are numbers, text, lists") as refused:
        literal(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("text", [f"[{'0,' * 20_000}]", f"{{1: ({'0,' * 20_000})}}", "[0]*9000 + [0]*9000"])
def test_a_list_of_too_many_items_is_refused(text):
    with pytest.raises(UserError, match="valid are numbers, text, lists"):
        literal(text)


@pytest.mark.parametrize("text", ["[0] * 1000000", "1000000 * (0,)"])
def test_what_would_be_too_large_is_never_made(text):
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="valid are numbers, text, lists"):
            literal(text)
        assert tracemalloc.get_traced_memory()[1] < 2**20  # the smallest of these lists takes 8 MB
    finally:
        tracemalloc.stop()


def test_no_module_of_fairseq_evaluates_in_another_way():
    folder, found = Path(fairseq.__file__).parent, set()
    for file in folder.rglob("*.py"):
        name = ".".join(file.relative_to(folder).with_suffix("").parts)
        if not name.startswith("examples."):
            calls = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
            names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
            assert not names & {"exec", "__import__"}, name
            if "eval" in names:
                found.add(name)
    # not every build of fairseq has all of them
    assert found == {
        name for name in MODULES if folder.joinpath(*name.split(".")).with_suffix(".py").exists()
    }
    assert all(importlib.import_module(f"fairseq.{name}").eval is literal for name in found)


@pytest.mark.parametrize(
    "flags",
    [
        (*ADAPTIVE_LOSS, "--arch", "lightconv", "--adaptive-softmax-cutoff", "CODE"),
        ("--arch", "fconv", "--encoder-layers", "CODE"),
        ("--adam-betas", "CODE"),
    ],
)
def test_a_flag_on_the_command_line_is_named(tmp_path, data, flags):
    code = f"__import__('pathlib').Path({str(tmp_path / 'pwned')!r}).touch()"
    finished = run(
        "fairseq-train", data, *TRAIN, *(code if flag == "CODE" else flag for flag in flags), succeeds=False
    )
    (line,) = [line for line in finished.output.splitlines() if "skipln_fairseq: error:" in line]
    assert f"error: {flags[-2]} " in line or "adam_betas" in line
    assert "Traceback" not in finished.output
    assert not (tmp_path / "pwned").exists()
