"""How a workaround takes the place of a function of fairseq."""

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["around"]


def around(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: ``owner.name`` becomes the decorated function, which is handed the stock one first.

    *owner* is a module or a class. Only callers that look the name up in it see the change; each
    workaround says who they are.
    """
    stock = getattr(owner, name)

    def install(replacement: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stock)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return replacement(stock, *args, **kwargs)

        setattr(owner, name, wrapper)
        return wrapper

    return install
