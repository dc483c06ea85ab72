"""kinemix teaches image networks to see time.

The public API, in one screen. Names are imported on first use, so that ``import kinemix`` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kinemix import evaluate, explain, temporal
    from kinemix.config import InputSpec, Protocol
    from kinemix.deploy.predict import load
    from kinemix.models.backbones import list_backbones
    from kinemix.models.checkpoint import load_checkpoint, save_checkpoint
    from kinemix.models.factory import create_model, list_models, temporalize
    from kinemix.models.video import VideoModel
    from kinemix.temporal import Insertion, Site, TemporalModule

_HOMES = {
    "create_model": "kinemix.models.factory",
    "list_models": "kinemix.models.factory",
    "temporalize": "kinemix.models.factory",
    "list_backbones": "kinemix.models.backbones",
    "VideoModel": "kinemix.models.video",
    "load": "kinemix.deploy.predict",
    "load_checkpoint": "kinemix.models.checkpoint",
    "save_checkpoint": "kinemix.models.checkpoint",
    "Insertion": "kinemix.temporal",
    "Site": "kinemix.temporal",
    "TemporalModule": "kinemix.temporal",
    "InputSpec": "kinemix.config",
    "Protocol": "kinemix.config",
}
_PACKAGES = ("evaluate", "explain", "temporal")

__all__ = [
    "InputSpec",
    "Insertion",
    "Protocol",
    "Site",
    "TemporalModule",
    "VideoModel",
    "create_model",
    "evaluate",
    "explain",
    "list_backbones",
    "list_models",
    "load",
    "load_checkpoint",
    "save_checkpoint",
    "temporal",
    "temporalize",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"kinemix.{name}")
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module 'kinemix' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
