"""What was prepared follows the model that it was made of."""

import threading
from collections.abc import Callable, Sequence
from types import MappingProxyType, MethodType
from typing import Any

import torch
from torch import nn

from .beams import Beams
from .snapshot import Snapshot

__all__ = ["Preparation", "TakeBack", "as_it_was"]

TakeBack = Callable[[], None]


class _Followed:
    """A method of an encoder or decoder, which first sees to it that what was prepared is up to date.

    It is looked at where a batch begins, not in each step.
    """

    PLACES = MappingProxyType({"forward": 2, "advance": 3})  # where a decoder's incremental state stands
    WHOLE = ("search",)  # methods whose call uses the whole model

    def __init__(self, preparation: "Preparation", stack: nn.Module, name: str):
        self.preparation, self.stack, self.name = preparation, stack, name
        self.method = getattr(stack, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # or exporting: traced are operations of torch, not calls of C
            return getattr(type(self.stack), self.name)(self.stack, *args, **kwargs)
        place = self.PLACES.get(self.name, len(args))
        state = kwargs.get("incremental_state", args[place] if len(args) > place else None)
        stack = None if self.name in self.WHOLE else self.stack
        outermost = self.stack.__dict__.get(self.name) is self  # and not called by what stands in its place
        if self.preparation.holds(stack, look=Beams.begins(state)):
            return self.method(*args, **kwargs)
        now = getattr(self.stack, self.name)
        # who puts back what stood here before a change of his own puts back what is over
        return (now if outermost and now is not self else self.plain())(*args, **kwargs)

    def plain(self) -> Callable[..., Any]:
        """The method as its class has it."""
        return MethodType(getattr(type(self.stack), self.name), self.stack)

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy of the stack alone is none that was prepared
        return MethodType, (getattr(type(self.stack), self.name), self.stack)


def as_it_was(stack: nn.Module) -> nn.Module:
    """An encoder or decoder of whose model nothing is prepared any more: what TorchScript can compile."""
    followed = stack.__dict__.get("forward")
    if isinstance(followed, _Followed):
        followed.preparation.give_up()
    return stack


class Preparation:
    """What was done to a model to make it quick, and done again when the model has been changed.

    Args:
        model: with a decoder, and an encoder or none.
        done: what takes it back.
        again: takes it back and prepares the model as it is then.
        give_up: takes it back for good.
    """

    def __init__(
        self,
        model: nn.Module,
        done: Sequence[TakeBack],
        again: Callable[[], None],
        give_up: Callable[[], Any],
    ):
        self._done, self._again, self._over = list(done), again, False
        self.give_up = give_up
        self._lock = threading.Lock()
        self._snapshots: dict[nn.Module, Snapshot] = {}
        if done:
            for stack in (getattr(model, "encoder", None), model.decoder):
                if stack is not None:
                    self._follow(stack)

    def _follow(self, stack: nn.Module) -> None:
        # of this stack only, as the engine does
        names = ("forward", "advance", "search")
        for name in [name for name in names if name == "forward" or name in stack.__dict__]:
            before = stack.__dict__.get(name)
            setattr(stack, name, _Followed(self, stack, name))
            self._done.insert(0, lambda name=name, before=before: self._unfollow(stack, name, before))
        self._snapshots[stack] = Snapshot(stack)

    @staticmethod
    def _unfollow(stack: nn.Module, name: str, before: Any) -> None:
        if isinstance(stack.__dict__.get(name), _Followed):  # and nobody has put another one in its place
            delattr(stack, name)
            if before is not None:
                setattr(stack, name, before)

    def holds(self, stack: nn.Module | None, look: bool) -> bool:
        """Whether this is of the model as it is now; if not, it is over, and the model is prepared anew.

        Args:
            stack: the part of the model that is used, or None for all.
            look: whether it has changed, or rely on what was seen before.
        """
        if not look:
            return not self._over
        with self._lock:
            used = self._snapshots.values() if stack is None else (self._snapshots[stack],)
            if not self._over and not all(one.holds() for one in used):
                self._over = True  # of several threads the first one prepares
                self._again()
            return not self._over

    def take_back(self) -> None:
        """Let the model be as it was."""
        for take_back in self._done:
            take_back()
