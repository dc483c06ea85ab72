"""The layout law: the shapes that travel through kinemix, named once.

B clips, T frames a clip, C channels, H x W pixels, K classes. A clip is ``B T C H W`` everywhere a user can
see. ``(B T) C H W`` exists only inside a 2D backbone, and one adapter (:class:`kinemix.models.video.Fold`)
does the conversion.
"""

from typing import TypeAlias

from jaxtyping import Float, Int, UInt8
from torch import Tensor

Clip: TypeAlias = Float[Tensor, "B T C H W"]
"""A batch of clips: network input, or a feature map inside a temporal module."""

Frame: TypeAlias = Float[Tensor, "B C H W"]
"""One time step of a batch of clips: what a causal module's ``step`` takes."""

FoldedFrames: TypeAlias = Float[Tensor, "BT C H W"]
"""Frames as a 2D backbone sees them: clips and time folded into the batch."""

Logits: TypeAlias = Float[Tensor, "B K"]

Video: TypeAlias = UInt8[Tensor, "T C H W"]
"""Decoded frames of one video, 0..255, RGB."""

FrameIndices: TypeAlias = Int[Tensor, " T"]
