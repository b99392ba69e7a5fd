"""Whether a module computes what its class says, which who computes that in another way must ask."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules import module as every_module

__all__ = ["changes_forward", "is_plain", "is_watched", "same_as_class"]

_same: set[Callable[..., Any]] = set()


def same_as_class(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function that is put into modules as a method: it computes what the class's computes, up to rounding.

    Kernels may still replace a module that has it. What wraps it is another function, and they may not.
    """
    _same.add(method)
    return method


def is_watched(module: nn.Module) -> bool:
    """Whether hooks, its own or those of every module, see or change what it computes."""
    own = module._forward_hooks or module._forward_pre_hooks
    return bool(own or module._backward_hooks or module._backward_pre_hooks) or _every_module_is_watched()


def _every_module_is_watched() -> bool:
    return bool(every_module._has_any_global_hook())


def is_plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether it is of one of these classes and no subclass, is not watched, and has all methods of its class.

    A parametrisation makes a subclass; a method that is put into a module hides the class's.
    """
    if type(module) not in kinds or is_watched(module):
        return False
    return not any(_hides(module, name) for name in vars(module))


def changes_forward(module: nn.Module) -> bool:
    """Whether a method was put into it that computes something else than its class."""
    return "forward" in vars(module) and _hides(module, "forward")


def _hides(module: nn.Module, name: str) -> bool:
    method, own = getattr(type(module), name, None), vars(module)[name]
    # what a copy has of a module that was computed with in another way
    function = getattr(own, "__func__", None)
    return callable(method) and function is not method and function not in _same
