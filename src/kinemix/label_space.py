"""What can be answered about a video: the classes of one question, of several, or any number of classes at once.

A network gives one row of K logits, whatever it is asked. Where there are several tasks (verb, noun, action), their
classes stand side by side in that row, and each task is a softmax of its own. Where a sample may have several labels,
every class is a question of its own, to be answered with yes or no.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

UNLABELLED = -1
"""Class index of a sample whose label nobody here knows."""


@dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """The K classes that a row of logits is about, and how they are asked for.

    Labels of B samples are ``B`` class indices where there is one task, ``B tasks`` where there are several (each
    counted from the start of its own task), and ``B K`` of 0 and 1 where a sample may have several labels.

    Attributes:
        class_names: K names, of all tasks one after the other.
        tasks: number of classes by task, in the order of the logits; empty where there is one task.
        multilabel: whether a sample may have any number of the classes.
        many_shot: places of the classes that a benchmark takes its mean precision and recall over.
    """

    class_names: tuple[str, ...]
    tasks: Mapping[str, int] = field(default_factory=dict)
    multilabel: bool = False
    many_shot: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.tasks and self.multilabel:
            raise ValueError("several tasks, and several labels in each: not both")
        if self.tasks and sum(self.tasks.values()) != len(self.class_names):
            raise ValueError(f"{len(self.class_names)} classes for the tasks {dict(self.tasks)}")

    @classmethod
    def of_tasks(
        cls, task_names: Mapping[str, Sequence[str]], many_shot: Mapping[str, Sequence[str]] | None = None
    ) -> "LabelSpace":
        """Several tasks, each with its class names and, where there are some, those that are many-shot."""
        frequent = {task: set(names) for task, names in (many_shot or {}).items()}
        often = [name in frequent.get(task, ()) for task, names in task_names.items() for name in names]
        return cls(
            class_names=tuple(name for names in task_names.values() for name in names),
            tasks={task: len(names) for task, names in task_names.items()},
            many_shot=frozenset(place for place, is_often in enumerate(often) if is_often),
        )

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """Of the labels of one sample."""
        if self.multilabel:
            return (len(self.class_names),)
        return (len(self.tasks),) if self.tasks else ()

    @property
    def places(self) -> dict[str, slice]:
        """Where the logits of each task stand in the row; empty where there is one task."""
        places, start = {}, 0
        for task, count in self.tasks.items():
            places[task] = slice(start, start + count)
            start += count
        return places

    @property
    def leading(self) -> str | None:
        """The task whose figure stands for all: the last, which is what a dataset is about (the action)."""
        return list(self.tasks)[-1] if self.tasks else None

    def describe(self) -> str:
        """How many classes in words.

        >>> LabelSpace.of_tasks({"verb": ("cut", "wash"), "noun": ("cup", "pan", "egg")}).describe()
        '2 verb and 3 noun classes'
        """
        if self.tasks:
            counts = [f"{count} {task}" for task, count in self.tasks.items()]
            return f"{', '.join(counts[:-1])} and {counts[-1]} classes"
        several = ", any number a video" if self.multilabel else ""
        return f"{len(self.class_names)} classes{several}"

    def pick(self, task: str) -> "LabelSpace":
        """One of the tasks by itself."""
        place = self.places[task]
        inside = range(place.start, place.stop)
        return LabelSpace(
            class_names=self.class_names[place],
            many_shot=frozenset(k - place.start for k in self.many_shot if k in inside),
        )


def label_space_to_dict(space: LabelSpace) -> dict[str, Any]:
    """What goes into a checkpoint's or a score file's JSON, beside the class names."""
    return {
        "tasks": dict(space.tasks),
        "multilabel": space.multilabel,
        "many_shot": sorted(space.many_shot),
    }


def label_space_from_dict(class_names: Sequence[str], values: Mapping[str, Any]) -> LabelSpace:
    """What comes out of it; files from before there were tasks say nothing and have one."""
    return LabelSpace(
        class_names=tuple(class_names),
        tasks=values.get("tasks", {}),
        multilabel=values.get("multilabel", False),
        many_shot=frozenset(values.get("many_shot", ())),
    )
