"""How a training says that it has lost one of its processes."""

__all__ = ["LOST"]

LOST = "another process of this training has ended, or has not answered"
