"""fairseq evaluates the text of some flags as Python; here such text is read as data.

``--adaptive-softmax-cutoff 10000,20000``, fconv's ``--encoder-layers '[(512, 3)] * 20'``, ``adam_betas``: whatever
stands there would run, also where a checkpoint holds it.
"""

import ast
import importlib
import operator
import sys
from argparse import Action, Namespace
from collections.abc import Callable
from typing import Any

from fairseq.dataclass import utils as dataclass_utils
from omegaconf import DictConfig, OmegaConf

from skipln_fairseq.common.errors import UserError
from skipln_fairseq.compat.patch import around

__all__ = ["MODULES", "apply", "literal"]

# All modules of fairseq with a call of ``eval``. Those that need what is not installed are imported by nobody else.
MODULES = (
    "criterions.ctc",
    "data.audio.raw_audio_dataset",
    "data.codedataset",
    "models.fconv",
    "models.fconv_lm",
    "models.fconv_self_att",
    "models.hubert.hubert",
    "models.lightconv_lm",
    "models.multires_hubert.multires_hubert",
    "models.speech_to_text.s2t_wav_transformer",
    "models.transformer_lm",
    "models.wav2vec.wav2vec",
    "models.wav2vec.wav2vec2",
    "optim.adafactor",
    "optim.adam",
    "optim.adamax",
    "optim.cpu_adam",
    "optim.fused_lamb",
    "utils",
)

LONGEST_TEXT = 100_000
MOST_ITEMS = 10_000
LARGEST = 2.0**63

ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
UNREADABLE = (SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError, MemoryError)
CONTAINERS: dict[type[ast.AST], Callable] = {ast.List: list, ast.Tuple: tuple}


def apply() -> None:
    """Give each of these modules an ``eval`` of its own, which stands before Python's."""
    for name in MODULES:
        try:
            module = importlib.import_module(f"fairseq.{name}")
        except ImportError:
            continue
        module.eval = literal

    @around(dataclass_utils, "eval_str_list")
    def eval_str_list(stock, x: Any, x_type: type = float) -> Any:
        try:
            return stock(x, x_type)
        except SyntaxError as error:  # argparse names the flag of a ValueError alone
            raise ValueError(f"{x!r} is no number and no list of numbers") from error


def literal(text: Any) -> Any:
    """The value of a literal, or of arithmetic of literals; no name is looked up and nothing is called.

    Raises:
        UserError: for any other text, and for results beyond 10,000 items or 2^63; it names the flag where one of the
            callers holds that flag.
        TypeError: for what is no text, as ``eval`` does; fairseq catches that.
    """
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no text")
    try:
        if len(text) > LONGEST_TEXT:
            raise ValueError
        return _value(ast.parse(text.strip(), mode="eval").body)
    except UNREADABLE as error:
        flag = _flag_with(text)
        shown = repr(text if len(text) <= 80 else f"{text[:80]}…")
        raise UserError(
            f"{f'{flag} ' if flag else ''}{shown}: valid are numbers, text, lists and their arithmetic, "
            "such as [(512, 3)] * 20"
        ) from error


def _value(node: ast.AST) -> Any:
    match node:
        case ast.Constant(value):
            found = value
        case ast.List(items) | ast.Tuple(items):
            found = CONTAINERS[type(node)](map(_value, items))
        case ast.Dict(keys, values) if all(keys):
            found = dict(zip(map(_value, keys), map(_value, values), strict=True))
        case ast.UnaryOp(operation, operand):
            found = ARITHMETIC[type(operation)](_value(operand))
        case ast.BinOp(left, operation, right):
            found = _combined(operation, _value(left), _value(right))
        case _:
            raise ValueError
    if _items(found) > MOST_ITEMS:
        raise ValueError
    return found


def _combined(operation: ast.AST, left: Any, right: Any) -> Any:
    """Of two numbers, or of lists; what would be too large is never made."""
    match operation, left, right:
        case ast.Mult(), list() | tuple(), int() if right * _items(left) <= MOST_ITEMS:
            return left * right
        case ast.Mult(), int(), list() | tuple():
            return _combined(operation, right, left)
        case ast.Add(), list() | tuple(), list() | tuple():
            return left + right
        case _, int() | float(), int() | float():
            found = ARITHMETIC[type(operation)](left, right)
            if abs(found) < LARGEST:
                return found
    raise ValueError


def _items(value: Any) -> int:
    """How many numbers and texts, those of inner lists too."""
    match value:
        case list() | tuple():
            return 1 + sum(map(_items, value))
        case dict():
            return 1 + _items([*value, *value.values()])
    return 1


def _flag_with(text: str) -> str | None:
    """The name of the flag that holds this text, which is in the hands of whoever asked for its value."""
    frame = sys._getframe(2)
    while frame:
        for held in list(frame.f_locals.values()):
            if isinstance(held, Action) and held.option_strings:
                return held.option_strings[-1]
            for name, value in _flags(held).items():
                if isinstance(value, str) and value == text:
                    return f"--{str(name).replace('_', '-')}"
        frame = frame.f_back
    return None


def _flags(held: Any) -> dict[Any, Any]:
    if isinstance(held, DictConfig):
        held = OmegaConf.to_container(held, resolve=False)
    return vars(held) if isinstance(held, Namespace) else held if isinstance(held, dict) else {}
