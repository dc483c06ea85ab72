"""What the page and the API ask for: clips are read within limits and forgotten, networks answer one at a time."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinemix.app.answer import Reply, answer_clip
from kinemix.data.reader import open_video
from kinemix.data.remembered import RememberedFrames
from kinemix.data.strangers import CarefulReader
from kinemix.deploy.predict import Recogniser
from kinemix.errors import ConfigError, DataError, UnreadableVideoError, did_you_mean
from kinemix.types import Video


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What visitors may send.

    Attributes:
        megabytes: of one clip (2**20 bytes each, as browsers count them).
        seconds: that it may last.
        waiting: clips that are sent or wait for their answer at a time.
    """

    megabytes: float = 64
    seconds: float = 60
    waiting: int = 8

    def __post_init__(self) -> None:
        for name in ("megabytes", "seconds", "waiting"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"max_{name} is {getattr(self, name):g}: it must be more than 0")

    @property
    def bytes(self) -> int:
        """Of one clip."""
        return int(self.megabytes * 2**20)

    def explain_size(self) -> str:
        """To whoever sent more."""
        return f"The clip is larger than {self.megabytes:g} MB: send a shorter or smaller one."

    def explain_waiting(self) -> str:
        """To whoever comes when all places are taken."""
        return f"All places are taken (at most {self.waiting} clips wait): try again in a moment."

    def describe(self) -> str:
        """What may be sent, in words."""
        return f"up to {self.seconds:g} seconds and {self.megabytes:g} MB"


@dataclass(frozen=True)
class Clip:
    """A clip that has been read.

    Attributes:
        name: of its file.
        frames: for each network, the frames that it looks at.
    """

    name: str
    frames: Mapping[str, RememberedFrames]


class Service:
    """Networks that answer to clips.

    Args:
        networks: by the names that visitors choose from; the first is asked where none is chosen.
        limits: of what is read.
        top: answers of each task, where nothing else is asked for.
        threshold: score from which a class is present, likewise.
    """

    def __init__(
        self,
        networks: Mapping[str, Recogniser],
        *,
        limits: Limits | None = None,
        top: int = 5,
        threshold: float = 0.5,
    ) -> None:
        if top < 1 or not 0 < threshold < 1:
            raise ConfigError(
                f"top={top}, threshold={threshold:g}: give 1 answer or more, and a number between 0 and 1"
            )
        self.networks, self.limits = dict(networks), limits or Limits()
        self.top, self.threshold = top, threshold
        self._reader: CarefulReader[dict[str, RememberedFrames]] = CarefulReader(
            self._remember, max_seconds=self.limits.seconds
        )
        self._one_at_a_time = threading.Lock()

    def start(self) -> None:
        """Make the process that reads; before any server, so that it shares no connection."""
        self._reader.start()

    def close(self) -> None:
        """End it."""
        self._reader.close()

    def __enter__(self) -> "Service":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _remember(self, path: Path) -> dict[str, RememberedFrames]:
        return {name: recogniser.remember(path) for name, recogniser in self.networks.items()}

    def read(self, path: Path) -> Clip:
        """What all networks look at in a clip; its file is not needed any more.

        Raises:
            DataError: it is too large or too long, or gives no frames; the message names the file without its folder.
        """
        try:
            if path.is_file() and path.stat().st_size > self.limits.bytes:
                raise DataError(f"{path.name}: {self.limits.explain_size()}")
            return Clip(path.name, self._reader.read(path))
        except UnreadableVideoError as error:
            raise UnreadableVideoError(path.name, error.reason) from None

    def answer(self, clip: Clip, network: str | None = None) -> Reply:
        """A network's answer to a clip, with its reasons.

        Raises:
            KinemixError: there is no such network, or it cannot answer.
        """
        name = self.choose(network)
        with self._one_at_a_time:
            return answer_clip(self.networks[name], clip.frames[name], top=self.top, threshold=self.threshold)

    def predict(
        self,
        path: Path,
        network: str | None = None,
        *,
        top: int | None = None,
        threshold: float | None = None,
    ) -> dict[str, Any]:
        """The answer as JSON: what ``kinemix predict --format json`` prints for the file, and the network's name.

        Args:
            path: of the clip.
            network: by default the first.
            top: answers of each task, by default the service's.
            threshold: score from which a class is present, likewise.

        Raises:
            KinemixError: the clip cannot be read, or an argument is not as it must be.
        """
        name = self.choose(network)
        clip = self.read(path)
        with self._one_at_a_time:
            found = self.networks[name].predict(
                clip.frames[name],
                top=self.top if top is None else top,
                threshold=self.threshold if threshold is None else threshold,
            )
        return {"file": clip.name, "model": name, "predictions": [one.to_dict() for one in found]}

    def choose(self, network: str | None) -> str:
        """The name of a network, the first for ``None``.

        Raises:
            ConfigError: there is none of that name.
        """
        if network is None:
            return next(iter(self.networks))
        if network not in self.networks:
            raise ConfigError(f"no model {network!r} here: {did_you_mean(network, self.networks)}")
        return network


@dataclass(frozen=True)
class Example:
    """A clip that visitors may choose, read before the first of them comes.

    Attributes:
        clip: what the networks look at.
        thumbnail: ``3 H W``, its middle frame.
    """

    clip: Clip
    thumbnail: Video


_THUMBNAIL_SIDE = 160


def read_examples(
    service: Service, paths: Sequence[str], *, on_read: Callable[[], None] = lambda: None
) -> tuple[Example, ...]:
    """The clips that a user names as examples.

    Args:
        service: whose limits do not hold for them.
        paths: files, or folders of frames.
        on_read: called after each.

    Raises:
        UnreadableVideoError: one of them gives no frames.
    """
    files = [Path(path) for path in paths]
    alike = len({file.name for file in files}) < len(files)
    examples = []
    for path in files:
        with open_video(path, short_side=_THUMBNAIL_SIDE) as video:
            thumbnail = video.read([video.num_frames // 2])[0]
        frames = {name: recogniser.remember(path) for name, recogniser in service.networks.items()}
        name = "/".join(path.resolve().parts[-2:]) if alike else path.name
        examples.append(Example(Clip(name, frames), thumbnail))
        on_read()
    return tuple(examples)
