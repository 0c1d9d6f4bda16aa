"""A measured table in LaTeX: booktabs tabulars that fit a page, what does not fit in further tables."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lt_repro.papers.table import Table
from lt_repro.render.cells import Measured
from lt_repro.render.text import columns_of, footer, one_line

_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "†": r"\textdagger{}", "±": r"$\pm$", "−": "$-$", "—": "---"}
    | {"‡": r"\textdaggerdbl{}", "§": r"\textsection{}"}
    | {"∞": r"$\infty$", "[": "{[}"}  # a line that begins with [ would be read as the argument of the \\ before it
)
_WIDTH = 345.0  # of the text, in points


def latex(table: Table, measured: Sequence[Measured], notes: Iterable[str] = (), best: bool = False) -> str:
    """Returns table environments with booktabs tabulars, the footer and `notes` below the last.

    Columns that do not fit beside each other in a text of 345 pt (the article class at 10 pt) go into a further table.
    """
    room = whole = _WIDTH - _wide(table.titles())
    blocks: list[list[tuple[str, dict[str, list[str]]]]] = [[]]
    for title, parts in _no_wider(whole, columns_of(table, measured, best)):
        wide = max(_wide([title], 5.0), sum(_wide([name, *texts]) for name, texts in parts.items()))
        if blocks[-1] and wide > room:
            blocks.append([])
            room = whole
        blocks[-1].append((title, parts))
        room -= wide
    floats = [_float(table, block, i) for i, block in enumerate(blocks)]
    below = " ".join(one_line(line).translate(_LATEX) for line in (*footer(table, measured, best), *notes))
    floats[-1][-1:-1] = [r"\par\medskip\footnotesize\raggedright", f"{below}\\par"]
    return "\n".join([r"% needs \usepackage{booktabs}", *(line for lines in floats for line in lines)]) + "\n"


def _no_wider(
    room: float, columns: Iterable[tuple[str, Mapping[str, list[str]]]]
) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yields columns as they are; one that is wider than the room in several parts, each under its title."""
    for title, parts in columns:
        taken: dict[str, list[str]] = {}
        left = room
        for name, texts in parts.items():
            wide = _wide([name, *texts])
            if taken and wide > left:
                yield title, taken
                taken, left = {}, room
            taken[name] = texts
            left -= wide
        yield title, taken


def _wide(texts: Iterable[str], sign: float = 4.5) -> float:
    """Returns how many points of a line a column of texts takes in small print; capitals are wider than figures."""
    return sign * max(map(len, texts)) + 8.0


def _float(table: Table, block: Sequence[tuple[str, Mapping[str, list[str]]]], number: int) -> list[str]:
    """Returns the lines of one table environment; `number` counts those of one table from 0."""
    label = rf"\label{{tab:{re.sub('[^A-Za-z0-9.-]', '-', table.id)}}}"
    over, rules, under, at = [""], [], [""], 2
    for title, parts in block:
        over.append(rf"\multicolumn{{{len(parts)}}}{{c}}{{{title.translate(_LATEX)}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + len(parts) - 1}}}")
        under += parts
        at += len(parts)
    texts = [texts for _, parts in block for texts in parts.values()]
    lines = [[title, *(column[i] for column in texts)] for i, title in enumerate(table.titles())]
    return [
        r"\begin{table}",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{table.caption.translate(_LATEX)}{' (continued)' if number else ''}}}",
        *([] if number else [label]),
        rf"\begin{{tabular}}{{l{'r' * (at - 2)}}}",
        r"\toprule",
        " & ".join(over) + r" \\",
        "".join(rules),
        " & ".join(under) + r" \\",
        r"\midrule",
        *(" & ".join(cell.translate(_LATEX) for cell in line) + r" \\" for line in lines),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
