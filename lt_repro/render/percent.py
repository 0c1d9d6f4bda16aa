"""Fractions and differences as text: percent, percentage points, mean and spread."""


def spread(mean: float, sd: float | None, sign: bool = False) -> str:
    """Returns "38.20 ± 0.31" in percent of fractions, or the mean alone; with `sign`, as `points` writes it."""
    first = points(mean) if sign else percent(mean)
    return first if sd is None else f"{first} ± {percent(sd)}"


def percent(fraction: float) -> str:
    """Returns "38.20", a fraction in percent, or half the width of an interval in points."""
    return f"{100 * fraction:.2f}"


def points(value: float) -> str:
    """Returns a difference of fractions in percentage points, two decimals with sign: "+5.90", "−0.20", "0.00"."""
    return signed(100 * value, 2)


def signed(value: float, digits: int) -> str:
    """Returns a number with its sign, "+5.90" or "−0.20"; what rounds to 0 has none."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]
