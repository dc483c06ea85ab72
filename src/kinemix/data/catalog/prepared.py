"""A folder that ``kinemix prepare`` made: the clips of another dataset, fast to sample, labelled as there."""

from pathlib import Path

from kinemix.data.annotations import Listing
from kinemix.data.catalog.base import Dataset
from kinemix.data.prepare.manifest import FACTS_NAME, UNFINISHED_NAME, read_listing
from kinemix.errors import DataError


class Prepared(Dataset):
    """Known by its ``prepared.json``."""

    name = "prepared"

    @staticmethod
    def recognises(path: Path) -> bool:
        return (path / FACTS_NAME).is_file() or (path / UNFINISHED_NAME / "plan.json").is_file()

    @staticmethod
    def list_videos(path: Path, *, root: str | None, group_by: str | None) -> Listing:
        """See :meth:`Dataset.list_videos`.

        Raises:
            DataError: the preparation is not finished, or damaged; groups that were not kept; a ``root``.
        """
        if root is not None:
            raise DataError(
                f"data.root={root}: {path} is prepared and knows where its clips are: leave it out"
            )
        return read_listing(path, group_by=group_by)
