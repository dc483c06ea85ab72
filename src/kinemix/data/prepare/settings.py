"""How clips are prepared: everything that decides the bytes that come out."""

from dataclasses import dataclass
from typing import Literal

import av

from kinemix.errors import ConfigError

Form = Literal["video", "frames"]
Image = Literal["jpeg", "webp"]

DEFAULT_CRF, DEFAULT_JPEG, DEFAULT_WEBP = 31, 75, 50


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How clips are prepared.

    Attributes:
        to: ``video`` codes a clip with H.264, ``frames`` every frame as an image of its own.
        image: of ``frames``; WebP takes about half the bytes of JPEG and twice the time to decode.
        short_side: pixels of the shorter side; smaller clips stay as they are.
        quality: of ``video`` x264's constant rate factor, 0 (lossless) to 51, 18 looks like the source; of
            ``frames`` 1 to 100. By default 31, 75 (JPEG) or 50 (WebP).
        keyframes: frames from one key frame of ``video`` to the next; 1 codes every frame by itself, which is
            the fastest to sample and the largest.
        shard_clips: clips in a shard.
    """

    to: Form = "video"
    image: Image = "jpeg"
    short_side: int = 256
    quality: int | None = None
    keyframes: int = 1
    shard_clips: int = 100

    def __post_init__(self) -> None:
        most = 51 if self.to == "video" else 100
        least = 0 if self.to == "video" else 1
        for name, low, high in (
            ("short_side", 16, 8192),
            ("quality", least, most),
            ("keyframes", 1, 250),
            ("shard_clips", 1, 100_000),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"--{name} {value}: it must be from {low} to {high}")
        if self.to == "frames" and self.keyframes != 1:
            raise ConfigError(f"--keyframes {self.keyframes}: belongs to --to video; leave it out")
        if self.to == "video" and self.image != "jpeg":
            raise ConfigError(f"--image {self.image}: belongs to --to frames; leave it out")

    @property
    def settled_quality(self) -> int:
        """The quality, with its default filled in."""
        if self.quality is not None:
            return self.quality
        if self.to == "video":
            return DEFAULT_CRF
        return DEFAULT_JPEG if self.image == "jpeg" else DEFAULT_WEBP


def check_encoder(settings: Settings) -> None:
    """Refuse at once what could not be encoded.

    Raises:
        ConfigError: FFmpeg was built without libx264, or Pillow without WebP.
    """
    if settings.to == "video":
        try:
            av.Codec("libx264", "w")
        except av.codec.codec.UnknownCodecError as error:
            raise ConfigError(
                "--to video: this PyAV's FFmpeg has no libx264: install PyAV from its wheels (pip install av), "
                "or use --to frames"
            ) from error
    elif settings.image == "webp":
        from PIL import features

        if not features.check("webp"):
            raise ConfigError("--image webp: this Pillow has no WebP: use --image jpeg")
