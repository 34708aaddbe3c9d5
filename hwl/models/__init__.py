"""The models: `create_model` by name, `open_model` and `load_weights` from any checkpoint."""

from hwl.models.pose import PoseNet
from hwl.models.weights import load_model, load_weights, open_model, save_weights
from hwl.models.zoo import MODELS, create_model

__all__ = [
    "MODELS",
    "PoseNet",
    "create_model",
    "load_model",
    "load_weights",
    "open_model",
    "save_weights",
]
