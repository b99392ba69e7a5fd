"""Trained models from their checkpoints."""

from pathlib import Path

from fairseq import checkpoint_utils

from ..common.errors import UserError
from ..compat.checkpoints import explain_refusal
from .models import ImageModel
from .task import NAME, ImageClassificationTask

__all__ = ["load_model"]


def load_model(file: Path, data: str | None) -> tuple[ImageModel, ImageClassificationTask]:
    """A model, in evaluation mode and without gradients of its own, and the task for its data.

    Args:
        file: the checkpoint.
        data: in the place of what it was trained on, or None.

    Raises:
        UserError: it is no checkpoint of images.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such checkpoint")
    overrides = {} if data is None else {"images": data, "image_format": "auto"}
    state = checkpoint_utils.load_checkpoint_to_cpu(str(file), overrides)
    # before anything is built, which another task might want its own data for
    with explain_refusal(str(file)):
        task = state["cfg"]["task"]._name
    if task != NAME:
        raise UserError(f"{file}: a model of the task {task}, and no model of images")
    with explain_refusal(str(file)):
        (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(file)], state=state)
    return model.eval().requires_grad_(False), task
