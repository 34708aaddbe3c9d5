"""The models: `create_model` by name, `open_model` and `load_weights` from any checkpoint."""

from hwl.models.description import Description
from hwl.models.pose import PoseNet
from hwl.models.weights import (
    ensure_description,
    load_model,
    load_weights,
    open_model,
    save_weights,
)
from hwl.models.zoo import MODELS, create_model

__all__ = [
    "MODELS",
    "Description",
    "PoseNet",
    "create_model",
    "ensure_description",
    "load_model",
    "load_weights",
    "open_model",
    "save_weights",
]
