"""The page of departures: for each method what its paper says, what its public code does, and what is done here."""

from collections.abc import Iterable

from lt_repro.cards import Card
from lt_repro.render.text import grid

NOT_MEASURED = "not measured"

_HEADER = ("", "point", "the paper", "its public code", "ours", "effect")


def page(cards: Iterable[Card]) -> str:
    """Returns the Markdown page.

    Args:
        cards: Of the methods, in the order that they are shown in.
    """
    lines = [
        "# Departures",
        "",
        "Where a paper, its public code and this project differ, and what a paper leaves open: a table for each "
        'method, a row for each point. "none" under the public code: there is none, or it was not read for this point. '
        '"not checked": nobody looked; "not said": it says nothing. '
        f'The effect is what the point changes in a result; "{NOT_MEASURED}" does not say that it changes nothing. A '
        "name in code type is a setting, changed by `--set name=value`; `ltrepro methods NAME` says what it means.",
    ]
    for card in cards:
        rows = [
            [f"{number}", point.topic, point.paper, point.code, point.ours, point.effect or NOT_MEASURED]
            for number, point in enumerate(card.departures, 1)
        ]
        lines += ["", f"## {card.title} (`{card.name}`)", "", f"{card.about} Source: {card.source}", ""]
        # names of settings are code, as in a docstring
        table = [line.replace("\\`", "`") for line in grid(_HEADER, rows, [0])]
        lines += table if rows else ["None known."]
    return "\n".join([*lines, "", "This page is what `ltrepro methods --markdown` prints."])
