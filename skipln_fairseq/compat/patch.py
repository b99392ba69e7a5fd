"""How a workaround takes the place of a function of fairseq."""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

__all__ = ["around", "command"]


def around(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: ``owner.name`` becomes the decorated function, which is handed the stock one first.

    *owner* is a module or a class. Only callers that look the name up in it see the change; each
    workaround says who they are. What was a class method stays one, and the class comes after the stock
    function. TorchScript compiles the stock function.
    """
    found = inspect.getattr_static(owner, name)
    method = type(found) if isinstance(found, (classmethod, staticmethod)) else None
    stock = found.__func__ if method else found

    def install(replacement: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return replacement(stock, *args, **kwargs)

        # TorchScript reads the source of what is wrapped, and looks its names up among the wrapper's globals
        wrapper = FunctionType(wrapper.__code__, stock.__globals__, closure=wrapper.__closure__)
        functools.update_wrapper(wrapper, stock)
        setattr(owner, name, method(wrapper) if method else wrapper)
        return wrapper

    return install


def command(name: str) -> Iterator[ModuleType]:
    """The module of one of fairseq's commands, under its name or as the running script.

    It is loaded before what it imports, this package too; where another command runs there is none.
    """
    running = sys.modules["__main__"]
    if getattr(running.__spec__, "name", None) == name:
        yield running
    if name in sys.modules:
        yield sys.modules[name]
