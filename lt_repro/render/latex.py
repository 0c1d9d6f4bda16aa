"""A measured table in LaTeX: one bare booktabs tabular."""

from collections.abc import Iterable, Iterator, Sequence

from lt_repro.papers.table import Table
from lt_repro.render.cells import Measured
from lt_repro.render.intervals import interval
from lt_repro.render.percent import spread
from lt_repro.render.text import columns_of, footer, one_line, some_columns, with_runs

_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "†": r"\textdagger{}", "±": r"$\pm$", "−": "$-$", "—": "---"}
    | {"‡": r"\textdaggerdbl{}", "§": r"\textsection{}"}
    | {"∞": r"$\infty$", "[": "{[}"}  # a line that begins with [ would be read as the argument of the \\ before it
)
PLUS_MINUS = {
    "sd": "± standard deviation over seeds",
    "interval": "± 95 % confidence interval of the mean",
    "gain": "in brackets the gain over the first row, ± 95 % confidence interval",
}
"""What can stand beside a mean, and what the comments say of it."""


def latex(
    table: Table, measured: Sequence[Measured], notes: Iterable[str] = (), best: bool = False, pm: str = "sd"
) -> str:
    """Returns one booktabs tabular of the columns with runs, the best of each in bold; the rest is comments above it.

    Args:
        table: What is shown.
        measured: Its cells as `measure` returns them.
        notes: For the end of the comments.
        best: Whether to show the best accuracy along the curve beside the last one.
        pm: What stands beside a mean, one of `PLUS_MINUS`.
    """
    kept, left_out = with_runs(table, measured)
    above = [table.caption, f"Here: {PLUS_MINUS[pm]}.", *footer(table, measured, best), *left_out, *notes]
    table, measured = some_columns(table, measured, kept)
    over, rules, under = [""], [], [""]
    lines = [[title.translate(_LATEX)] for title in table.titles()]
    for i, (title, parts) in enumerate(columns_of(table, measured, best)):
        gains = parts.pop("gain", [])
        rules.append(rf"\cmidrule(lr){{{len(under) + 1}-{len(under) + len(parts)}}}")
        over.append(rf"\multicolumn{{{len(parts)}}}{{c}}{{{title.translate(_LATEX)}}}")
        under += parts
        ours = _ours(measured[i :: len(table.columns)], pm, gains)
        for line, *texts in zip(lines, ours, *list(parts.values())[1:], strict=True):
            line += [texts[0], *(text.translate(_LATEX) for text in texts[1:])]
    heads = [over] if set(under) == {"", "ours"} else [over, rules, under]
    return "\n".join(
        [
            *(f"% {one_line(line)}" for line in (r"needs \usepackage{booktabs}", *above)),
            rf"\begin{{tabular}}{{l{'r' * (len(under) - 1)}}}",
            r"\toprule",
            *("".join(head) if head is rules else _row(head) for head in heads),
            r"\midrule",
            *map(_row, lines),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _ours(cells: Sequence[Measured], pm: str, gains: Sequence[str]) -> Iterator[str]:
    """Yields what a column's cells reach, the best in bold: the highest accuracy, or the lowest error."""
    sign = -1 if cells[0].cell.metric == "ece" else 1
    ranks = [None if entry.mean is None else sign * round(entry.mean, 4) for entry in cells]
    top = max((rank for rank in ranks if rank is not None), default=None)
    for entry, rank, gain in zip(cells, ranks, gains or [""] * len(cells), strict=True):
        text = _text(entry, pm, gain).translate(_LATEX)
        yield rf"\textbf{{{text}}}" if rank is not None and rank == top else text


def _text(entry: Measured, pm: str, gain: str) -> str:
    if pm == "sd" or entry.mean is None:
        return entry.text()
    if pm == "interval":
        half = interval(list(entry.values.values()))[1] if len(entry.values) > 1 else None
        return f"{spread(entry.mean, half)} ({entry.n})"
    return spread(entry.mean, None) + (gain and f" ({gain})")
