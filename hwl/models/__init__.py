"""The networks: `create_model` by name, `load_weights` from any checkpoint of theirs."""

from hwl.models.pose import PoseNet
from hwl.models.weights import load_model, load_weights, save_weights
from hwl.models.zoo import SYSTEMS, create_model

__all__ = ["SYSTEMS", "PoseNet", "create_model", "load_model", "load_weights", "save_weights"]
