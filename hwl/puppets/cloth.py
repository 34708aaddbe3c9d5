"""What puppets and their furniture are made of: colors and patterned cloth."""

import colorsys
from typing import NamedTuple

from numpy.random import Generator

Color = tuple[float, float, float]  # red, green, blue, 0 to 255


class Cloth(NamedTuple):
    """A color; for hoops, stripes and checks also a second one and the period in pixels."""

    color: Color
    pattern: str = "plain"
    second: Color = (0, 0, 0)
    period: float = 1.0

    def dimmed(self, light: float) -> "Cloth":
        """Return the cloth with its colors multiplied by light, from 0 to 1."""
        return self._replace(color=scaled(self.color, light), second=scaled(self.second, light))


def scaled(color: Color, factor: float) -> Color:
    """The color with its channels multiplied by a factor."""
    red, green, blue = color
    return factor * red, factor * green, factor * blue


def random_color(rng: Generator) -> Color:
    """Draw a color as cloth and furniture have it, from grays to strong tones."""
    hsv = rng.random(), rng.uniform(0, 0.9), rng.uniform(0.2, 1.0)
    return scaled(colorsys.hsv_to_rgb(*hsv), 255)


def random_cloth(rng: Generator, period: float) -> Cloth:
    """Draw a plain, hooped, striped or checked cloth; the period is in pixels."""
    pattern = str(rng.choice(["plain", "hoops", "stripes", "checks"], p=[0.55, 0.2, 0.13, 0.12]))
    period = max(period * rng.uniform(0.7, 1.4), 4.0)
    return Cloth(random_color(rng), pattern, random_color(rng), period)
