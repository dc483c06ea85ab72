"""The backbones of MTNet as their own paper counts them: X3D S, M and L.

"X3D: Expanding Architectures for Efficient Video Recognition". FLOPs are MACs of one clip: 13 frames of 160 px,
16 of 224 and 16 of 312.
"""

from collections.abc import Iterator

from kinemix.evaluate.papers.row import Row


def list_rows() -> Iterator[Row]:
    """The released models, without accuracies, which depend on the views."""
    for letter, frames, size, parameters, flops in (
        ("S", 13, 160, "3.79", "1.96"),
        ("M", 16, 224, "3.79", "4.73"),
        ("L", 16, 312, "6.15", "18.37"),
    ):
        yield Row(
            paper="x3d",
            table="released models",
            label=f"X3D-{letter}",
            dataset="Kinetics-400",
            about=f"{frames}x{size}^2",
            model=f"x3d_{letter.lower()}",
            num_frames=frames,
            size=size,
            num_classes=400,
            parameters=parameters,
            flops=flops,
        )
