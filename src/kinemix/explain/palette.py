"""Colours of all pictures, safe for colour-blind eyes, and the marks that tell groups apart without colour.

Groups have Okabe and Ito's colours (their yellow left out: it is lost on white). Maps of numbers use colour maps
that rise evenly in lightness, so that they hold in grey as well.
"""

from dataclasses import dataclass

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

SHARES = "cividis"
"""Colour map of shares and counts: zero is dark."""

HEAT = "inferno"
"""Colour map of saliency over a picture: what does not count is black, what counts most is bright."""

SIGNED = "PuOr"
"""Colour map of numbers of either sign, white at zero: negative brown, positive violet."""

OTHERS = "#C8CCD0"
"""What is there but not spoken of."""

SOFT_INK = "0.35"
"""Of remarks that are not to be read first."""


@dataclass(frozen=True)
class Style:
    """How one group is drawn."""

    color: str
    marker: str


def pick_styles(count: int) -> list[Style]:
    """Styles for so many groups: all differ in colour up to 7, in colour or mark up to 56, then they repeat.

    Seven colours and eight marks go round side by side, so that neighbours in the list differ in both.
    """
    return [Style(COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]) for i in range(count)]
