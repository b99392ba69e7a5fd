"""How a workaround takes the place of a function of fairseq."""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

__all__ = ["around"]


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
