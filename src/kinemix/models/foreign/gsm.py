"""The authors' GSM: TSN's layout around BN-Inception or Inception V3, with a gate after some convolutions.

The gate after the layer ``inception_3a_1x1`` is called ``gsm_inception_3a_1x1``.
"""

from typing import Any

from torch import Tensor

from kinemix.models.foreign.files import ForeignFile
from kinemix.models.foreign.layout import Finding
from kinemix.models.foreign.tsn import BN_INCEPTION, PREFIX, PROTOCOL, unwrap

_GATE = "gsm_"
_OUR_NAMES = {"conv3D": "gate_conv", "bn": "norm"}


def examine(file: ForeignFile) -> Finding | None:
    """What a file of this layout proves; ``None`` for another layout.

    Raises:
        CheckpointError: the network sees something else than colour frames.
    """
    if not any(name.startswith(PREFIX + _GATE) for name in file.state):
        return None
    state, classifier = unwrap(file)
    gates: set[str] = set()
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        gate, _, rest = name.partition(".")
        if gate.startswith(_GATE):
            part, _, last = rest.partition(".")
            plain[f"{gate.removeprefix(_GATE)}.temporal.{_OUR_NAMES.get(part, part)}.{last}"] = tensor
            gates.add(gate)
        else:
            plain[name] = tensor
    options: dict[str, Any] = {"color": "bgr", "num_modules": len(gates)}
    backbone = "bn_inception"
    if BN_INCEPTION not in state:
        backbone = "inception_v3"
        # Their pairs of 1 x 7 and 7 x 1 kernels stand in the other order than torchvision's.
        options["backbone_options"] = {"first_kernel": "tall"}
    return Finding(
        project="GSM repository",
        state=plain,
        model=f"gsm_{backbone}",
        module="gsm",
        options=options,
        classifier=classifier,
        protocol=PROTOCOL,
    )
