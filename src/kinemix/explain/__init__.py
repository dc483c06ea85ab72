"""Why a network answers as it does: every picture as a function, and the arrays behind it.

::

    kinemix.load(run)                    a trained network
    read_view(trained, video)            one clip of a video, as the network sees it and as people do
    compute_saliency, plot_saliency      where and when: saliency tubes, Grad-CAM
    measure_evidence, plot_evidence      when: the score by frame, without a frame, in other orders
    read_gates, plot_gates               GSM's gate planes
    read_kernels, plot_kernels           learned temporal kernels beside TSM's fixed ones
    read_position_kernels, plot_...      CTM's kernels for every place
    find_chosen_frames, plot_...         the frames that MTNet keeps
    explain_video, ExplanationWriter     all of it for a video, into a folder (``kinemix explain``)
    collect_features, project_features   vectors of a set of videos, and points in the plane
    group_samples, plot_embedding        coloured by class or group, models side by side
    embed_runs, write_embedding          all of that for runs, into a folder (``kinemix embed``)

Functions that read or compute return tensors or dataclasses of them; functions that plot take those and return a
matplotlib figure. Nothing is shown or written by itself.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "read_view": "view",
    "Trained": "view",
    "View": "view",
    "find_last_map": "last_map",
    "DoesNotApplyError": "last_map",
    "compute_saliency": "saliency",
    "measure_focus": "saliency",
    "plot_saliency": "saliency",
    "Saliency": "saliency",
    "measure_evidence": "evidence",
    "plot_evidence": "evidence",
    "Evidence": "evidence",
    "read_gates": "gates",
    "plot_gates": "gates",
    "read_kernels": "kernels",
    "make_tsm_kernels": "kernels",
    "plot_kernels": "kernels",
    "Kernels": "kernels",
    "read_position_kernels": "position_kernels",
    "plot_position_kernels": "position_kernels",
    "find_chosen_frames": "frame_choice",
    "plot_chosen_frames": "frame_choice",
    "METHODS": "methods",
    "Network": "methods",
    "explain_video": "explanation",
    "Explanation": "explanation",
    "ExplanationWriter": "explanation",
    "collect_features": "features",
    "group_samples": "groups",
    "project_features": "embedding",
    "measure_separation": "embedding",
    "plot_embedding": "embedding",
    "embed_runs": "embed",
    "write_embedding": "embed",
    "plot_filmstrip": "filmstrip",
    "overlay_heat": "heatmap",
    "Page": "page",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(f"kinemix.explain.{_HOMES[name]}"), name)
        return value
    raise AttributeError(f"module 'kinemix.explain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
