"""A folder that ``kinemix prepare`` made: the clips of another dataset, fast to sample, labelled as there."""

from pathlib import Path

from kinemix.data.annotations import Listing
from kinemix.data.catalog.base import Dataset
from kinemix.data.naming import ask_tasks, choose_tasks
from kinemix.data.prepare.manifest import FACTS_NAME, UNFINISHED_NAME, read_listing
from kinemix.errors import DataError


class Prepared(Dataset):
    """Known by its ``prepared.json``."""

    name = "prepared"
    takes = frozenset({"task"})

    @staticmethod
    def recognises(path: Path) -> bool:
        return (path / FACTS_NAME).is_file() or (path / UNFINISHED_NAME / "plan.json").is_file()

    @staticmethod
    def list_videos(
        path: Path, *, root: str | None, group_by: str | None, task: str | None = None
    ) -> Listing:
        """See :meth:`Dataset.list_videos`.

        Args:
            path, root, group_by: as there.
            task: of the prepared dataset, if another than it was prepared with.

        Raises:
            ConfigError: it has no such task.
            DataError: the preparation is not finished, or damaged; groups that were not kept; a ``root``.
        """
        if root is not None:
            raise DataError(
                f"data.root={root}: {path} is prepared and knows where its clips are: leave it out"
            )
        listing = read_listing(path, group_by=group_by)
        if task is None:
            return listing
        return ask_tasks(listing, choose_tasks(task, listing.task_names, title=str(path)))
