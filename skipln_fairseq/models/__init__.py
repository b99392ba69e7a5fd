"""What fairseq sees: the registered models, their architectures and flags."""

from .. import plugin  # noqa: F401  (prepares fairseq)
from .language_model import SkipTransformerLanguageModel
from .presets import register_presets
from .resume import check_checkpoints_when_training
from .translation import SkipTransformerAlignModel, SkipTransformerModel

register_presets()
check_checkpoints_when_training()

__all__ = ["SkipTransformerAlignModel", "SkipTransformerLanguageModel", "SkipTransformerModel"]
