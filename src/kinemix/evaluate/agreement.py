"""Two tables of the same rows: whether they put them in the same order."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Turned:
    """A pair of rows that stands the other way round.

    Attributes:
        better: the row that theirs puts first.
        worse: the other one, which ours puts first.
        theirs, ours: by how much; ours is below zero.
        within_spread: whether ours is no more than the deviations of the two leave open; ``None`` where a deviation
            is not known.
    """

    better: str
    worse: str
    theirs: float
    ours: float
    within_spread: bool | None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well the order of rows agrees.

    Attributes:
        rows: that both tables have.
        spearman: correlation of ranks; ``None`` for fewer than two rows, or where one table has all alike.
        kendall: tau-b, likewise.
        pairs: of rows that theirs tells apart.
        same: of them, those in the same order in ours.
        tied: of them, those that ours does not tell apart.
        turned: the rest, the widest in theirs first.
    """

    rows: int
    spearman: float | None
    kendall: float | None
    pairs: int
    same: int
    tied: int
    turned: tuple[Turned, ...]


def compare_orders(
    ours: Mapping[str, float], theirs: Mapping[str, float], deviations: Mapping[str, float] | None = None
) -> Agreement:
    """Compare the rows that both have, by name.

    Args:
        ours, theirs: figures; more is better.
        deviations: of ours.
    """
    spread = deviations or {}
    names = [name for name in theirs if name in ours]
    same = tied = 0
    turned: list[Turned] = []
    for first, second in combinations(names, 2):
        better, worse = sorted((first, second), key=lambda name: theirs[name], reverse=True)
        gap, ours_gap = theirs[better] - theirs[worse], ours[better] - ours[worse]
        if gap == 0:
            continue
        if ours_gap > 0:
            same += 1
        elif ours_gap == 0:
            tied += 1
        else:
            known = better in spread and worse in spread
            within = -ours_gap <= math.hypot(spread[better], spread[worse]) if known else None
            turned.append(Turned(better=better, worse=worse, theirs=gap, ours=ours_gap, within_spread=within))
    a, b = [ours[name] for name in names], [theirs[name] for name in names]
    tellable = len(set(a)) > 1 and len(set(b)) > 1
    return Agreement(
        rows=len(names),
        spearman=float(stats.spearmanr(a, b).statistic) if tellable else None,
        kendall=float(stats.kendalltau(a, b).statistic) if tellable else None,
        pairs=same + tied + len(turned),
        same=same,
        tied=tied,
        turned=tuple(sorted(turned, key=lambda pair: -pair.theirs)),
    )


def describe_agreement(agreement: Agreement) -> list[str]:
    """The same in sentences: first how far the orders agree, then each pair that does not."""
    if agreement.pairs == 0:
        return ["Fewer than two rows can be compared."]
    first = (
        f"{agreement.same} of {agreement.pairs} pairs of rows are in the order of the paper"
        + (f", {agreement.tied} are equal here" if agreement.tied else "")
        + (f", {len(agreement.turned)} the other way round" if agreement.turned else "")
    )
    if agreement.spearman is not None:
        first += f"; rank correlation {agreement.spearman:.2f} (Spearman), {agreement.kendall:.2f} (Kendall)"
    lines = [f"{first}, over {agreement.rows} rows."]
    for pair in agreement.turned:
        spread = {True: ", within the spread of the two", False: ", beyond the spread of the two", None: ""}
        lines.append(
            f"{pair.better} is {pair.theirs:.2f} points above {pair.worse} in the paper and {-pair.ours:.2f} below "
            f"it here{spread[pair.within_spread]}."
        )
    return lines
