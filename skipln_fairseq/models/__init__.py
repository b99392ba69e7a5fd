"""What fairseq sees: the registered models, their architectures and flags."""

from .presets import register_presets
from .translation import SkipTransformerAlignModel, SkipTransformerModel

register_presets()

__all__ = ["SkipTransformerAlignModel", "SkipTransformerModel"]
