"""The environment of a run, for the record: versions, cores, devices, commit and command line."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import torch.distributed

_REPORTED = ("torchvision", "timm", "lightning", "av", "torchcodec", "numpy", "safetensors")


def describe_environment() -> dict[str, Any]:
    """What a run ran on, as JSON can hold it."""
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in ("kinemix", *_REPORTED):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "platform": platform.platform(),
        "cores": count_cores(),
        "threads": torch.get_num_threads(),
        "processes": torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1,
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git_commit": _git_commit(),
        "command": sys.argv,
    }


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _git_commit() -> str | None:
    """Commit of the kinemix that runs, if it runs from a clone; a ``+`` means changed files."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
