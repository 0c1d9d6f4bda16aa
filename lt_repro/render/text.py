"""A measured table in words: rows of strings, Markdown, CSV, and two sentences on it. All in percent."""

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lt_repro import fields
from lt_repro.papers.settings import Settings
from lt_repro.papers.table import Published, Table, Variant
from lt_repro.recipe import Recipe
from lt_repro.render import comma
from lt_repro.render.cells import Measured, gain_of, published_text, to_json
from lt_repro.render.intervals import holm, p_value
from lt_repro.render.percent import points, spread
from lt_repro.store import provenance
from lt_repro.store.runs import Run

CSV_FIELDS = (
    *("exhibit", "row", "column", "metric", "branch", "unit", "n", "seeds", "mean", "sd", "best_mean", "best_sd"),
    *("published", "source", "measured_by_paper", "gain", "gain_ci95", "gain_n", "status", "keys"),
    *("tier", "protocol", "published_sd", "published_n"),
)
_FRACTIONS = {"mean", "sd", "best_mean", "best_sd", "published", "gain", "gain_ci95", "published_sd"}
_UNJUDGED = "with one seed, no interval"
_LEVEL = 0.05  # of significance


def rows(
    table: Table, measured: Sequence[Measured], best: bool = False
) -> tuple[list[str], list[list[str]], list[str]]:
    """Returns the header, the rows and the footer lines that every format shares.

    A column is "mean ± sd (n)" in percent. Next to it stand, where the column has any: with `best` the best on test;
    the published number, with ours minus it in points; in an ablation the gain over the first row, in points.

    Args:
        table: What is shown.
        measured: Its cells as `measure` returns them.
        best: Whether to show the best accuracy along the curve beside the last one.
    """
    errors = any(entry.cell.metric == "ece" for entry in measured)  # their columns say so
    header, lines = ["percent" if errors else "top-1 accuracy, percent"], [[title] for title in table.titles()]
    for title, parts in columns_of(table, measured, best):
        header += [title, *list(parts)[1:]]
        for i, line in enumerate(lines):
            line += [texts[i] for texts in parts.values()]
    return header, lines, list(footer(table, measured, best))


def markdown(table: Table, measured: Sequence[Measured], notes: Iterable[str] = (), best: bool = False) -> str:
    """Returns the caption, a GitHub table of the columns with runs, and the footer as a list, `notes` at its end."""
    kept, left_out = with_runs(table, measured)
    header, lines, _ = rows(*some_columns(table, measured, kept), best)
    listed = [f"- {_plain(line)}" for line in (*footer(table, measured, best), *left_out, *notes)]
    shown = grid(header, lines, range(1, len(header)))
    return "\n".join([f"**{_plain(table.caption)}**", "", *shown, "", *listed]) + "\n"


def with_runs(table: Table, measured: Sequence[Measured]) -> tuple[Sequence[int], list[str]]:
    """Returns the numbers of the columns that have a run, or of all where none has, and a line on the others."""
    count = len(table.columns)
    kept = [i for i in range(count) if any(entry.runs for entry in measured[i::count])]
    if not kept or len(kept) == count:
        return range(count), []
    return kept, [f"{count - len(kept)} of {count} columns have no run and are not shown; the CSV file has them all."]


def some_columns(table: Table, measured: Sequence[Measured], numbers: Collection[int]) -> tuple[Table, list[Measured]]:
    """Returns an exhibit and its cells with some of the columns, which are counted from 0."""
    cells = [entry for i, entry in enumerate(measured) if i % len(table.columns) in numbers]
    return dataclasses.replace(table, columns=[table.columns[i] for i in sorted(numbers)]), cells


def grid(header: Sequence[str], lines: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> list[str]:
    """Returns the lines of a GitHub table; the columns `numbers`, from 0, are aligned right."""
    plain = [[_plain(cell) for cell in row] for row in (header, *lines)]
    rule = ["---:" if i in numbers else "---" for i in range(len(header))]
    return [f"| {' | '.join(row)} |" for row in (plain[0], rule, *plain[1:])]


def document(
    table: Table, measured: Sequence[Measured], notes: Iterable[str] = (), best: bool = False
) -> dict[str, Any]:
    """Returns the table as JSON values: its exhibit, caption and footer, and its cells as `to_json` has them."""
    foot = [*footer(table, measured, best), *notes]
    return {"exhibit": table.id, "caption": table.caption, "footer": foot} | to_json(table, measured)


def csv(table: Table, measured: Sequence[Measured]) -> str:
    """Returns one line per cell under `CSV_FIELDS`, in percent; an ablation has gains over its first row, in points."""
    cells = (cell | {"unit": "percent"} for cell in to_json(table, measured)["cells"])
    return comma.lines(CSV_FIELDS, ([_csv_value(name, cell[name]) for name in CSV_FIELDS] for cell in cells))


def _csv_value(name: str, value: Any) -> object:
    if name in _FRACTIONS:
        return comma.percent(value)
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else value


def sentences(table: Table, measured: Sequence[Measured]) -> str:
    """Returns a short summary of an ablation: the best row against the first, then what each ingredient does alone.

    It speaks of the first column in which the first row and another have a number. A gain is named with its 95 %
    confidence interval. It is significant where the p value of its paired t test is below 0.05 after Holm's correction:
    for the best row over all rows that could have been it, for an ingredient over all of them. Two sentences, or one
    when there is nothing to compare.
    """
    width = len(table.columns)
    columns = [measured[i::width] for i in range(width)]
    cells = next((column for column in columns if column[0].values and len(_known(column)) > 1), None)
    if cells is None:
        first = f"the first row, {_quoted(table.rows[0])},"
        lack = (
            f"no other row has a number where {first} has one" if _known(measured[:width]) else f"{first} has no number"
        )
        return f"Nothing can be compared yet: {lack}."
    return f"{_best(cells, f' ({cells[0].cell.column.title})' if width > 1 else '')} {_ingredients(cells)}"


def _best(cells: Sequence[Measured], where: str) -> str:
    first, *others = _known(cells)
    rival = max(others, key=_rank)
    level = [_quoted(entry.cell.row) for entry in others if entry is not rival and _rank(entry) == _rank(rival)]
    ahead = _rank(rival) > _rank(first)
    lead = (
        f"the best of the {len(others) + 1} measured rows" if ahead else "no other row reaches more, the best of them"
    )
    names = _quoted(rival.cell.row) + (f" (level with {_listed(level)})" if level else "")
    result = rival.gain(first)
    if result is None:
        gain = "but the two share no seed to pair"
    else:
        pairs, p_values = len(rival.differences(first)), _adjusted(first, others)
        judged = _judged(p_values[rival.cell.row.label], len(p_values)) if pairs > 1 else _UNJUDGED
        over = f"paired over {pairs} seeds" if pairs > 1 else "on one seed"
        gain = f"a {'gain' if result[0] > 0 else 'difference'} of {spread(*result, sign=True)} points {over}, {judged}"
    start = f"{_quoted(first.cell.row)} reaches {_reached(first)}{where}"
    return f"{start}; {lead}, {names}, reaches {_reached(rival)}, {gain}."


def _ingredients(cells: Sequence[Measured]) -> str:
    first = cells[0]
    singles = {entry.cell.row.label: entry for entry in cells[1:] if _single(first.cell.row, entry.cell.row)}
    if not singles:
        return "No row of the table changes a single setting of the first row."
    names = {label: _ingredient(entry.cell.row) for label, entry in singles.items()}
    gains = {label: gain for label, entry in singles.items() if (gain := entry.gain(first))}
    p_values = _adjusted(first, singles.values())
    decided = [_effect(names[label], gains[label]) for label, p in p_values.items() if p < _LEVEL]
    undecided = [f"{names[label]} ({spread(*gains[label], sign=True)})" for label, p in p_values.items() if p >= _LEVEL]
    once = [_effect(names[label], gain) for label, gain in gains.items() if label not in p_values]
    never = [name for label, name in names.items() if label not in gains]
    clauses = [
        _listed(decided),
        f"{_listed(undecided)} {'is' if len(undecided) == 1 else 'are'} not significant" if undecided else "",
        f"{_listed(once)}, on one seed, {_UNJUDGED}" if once else "",
        f"{_listed(never)} cannot be compared yet" if never else "",
    ]
    corrected = _corrected(len(p_values))
    return f"Taken one at a time{corrected and f',{corrected}'}, {'; '.join(clause for clause in clauses if clause)}."


def _adjusted(first: Measured, others: Iterable[Measured]) -> dict[str, float]:
    """Returns the p value of each gain over `first`, by row label, after Holm's correction over all of them.

    Gains over fewer than two seeds have none, and do not count.
    """
    pairs = {entry.cell.row.label: entry.differences(first) for entry in others}
    tested = {label: p_value(each) for label, each in pairs.items() if len(each) > 1}
    return dict(zip(tested, holm(list(tested.values())), strict=True))


def _judged(p: float, count: int) -> str:
    """Returns "significant after Holm's correction over 8 rows (p = 0.0407)"."""
    number = "p < 0.001" if p < 0.001 else f"p = {p:.3g}"
    return f"{'significant' if p < _LEVEL else 'not significant'}{_corrected(count)} ({number})"


def _corrected(count: int) -> str:
    return f" after Holm's correction over {count} rows" if count > 1 else ""


def _effect(name: str, gain: tuple[float, float | None]) -> str:
    change = spread(*gain, sign=True)
    if change.startswith("0.00"):  # anything that does not round to nothing has a sign
        return f"{name} changes less than 0.01 points"
    return f"{name} {'costs' if change[0] == '−' else 'adds'} {change[1:]} points"


def _single(first: Variant, row: Variant) -> bool:
    return len([name for name in {*first.edits, *row.edits} if first.edits.get(name) != row.edits.get(name)]) == 1


def _ingredient(row: Variant) -> str:
    name = row.title.rsplit(" + ", 1)[-1]
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def _known(cells: Iterable[Measured]) -> list[Measured]:
    return [entry for entry in cells if entry.values]


def _rank(entry: Measured) -> float:
    return round(entry.mean or 0.0, 9)  # a mean of the same values in another order is the same mean


def _reached(entry: Measured) -> str:
    return f"{spread(entry.mean or 0.0, entry.sd)} % (n = {entry.n})"


def _quoted(row: Variant) -> str:
    return f'"{row.title}"'


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def columns_of(table: Table, measured: Sequence[Measured], best: bool) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yields each column's title and, by name, the texts that stand in it, one a row; ours first."""
    for i, column in enumerate(table.columns):
        cells = measured[i :: len(table.columns)]
        parts = {"ours": [entry.text() for entry in cells]}
        if best:
            tops = [entry.best for entry in cells]
            parts["best on test"] = ["" if mean is None else spread(mean, sd) for mean, sd in tops]
        printed = [entry.cell.published for entry in cells]
        both = [p and entry.mean is not None for entry, p in zip(cells, printed, strict=True)]
        parts["published (difference)" if any(both) else "published"] = [
            _beside_ours(entry.mean, p) if p else "" for entry, p in zip(cells, printed, strict=True)
        ]
        gains = [gain_of(table, entry, cells[0]) for entry in cells]
        parts["gain"] = [
            "" if gain is None else spread(gain, half, sign=True) + ("" if pairs == entry.n else f" ({pairs})")
            for entry, (gain, half, pairs) in zip(cells, gains, strict=True)
        ]
        yield column.title, {name: texts for name, texts in parts.items() if name == "ours" or any(texts)}


def _beside_ours(ours: float | None, published: Published) -> str:
    """Returns "51.04 (−1.84)": a published number and ours minus it, in points, where there is ours."""
    return published_text(published) + ("" if ours is None else f" ({points(ours - published.value)})")


_MEANS = {
    "best on test": "best on test: the highest accuracy along the curve, chosen on the test set, which is no result",
    "published (difference)": "difference: ours − published, in points",
    "gain": "gain: over the first row, in points, paired by seed (with the number of pairs where it is not the row's n)"
    ", ± 95 % confidence interval, not corrected for the number of rows",
}


def footer(table: Table, measured: Sequence[Measured], best: bool) -> Iterator[str]:
    """Yields the lines below a table: what is shown, sources, origin, departures, and what is missing and why."""
    shown = {name for _, parts in columns_of(table, measured, best) for name in parts}
    means = [words for name, words in _MEANS.items() if name in shown]
    yield "; ".join(["Last epoch; mean ± standard deviation over (n) seeds, in percent", *means]) + "."
    yield from _published(measured)
    for number, note in enumerate(table.notes, 1):
        yield f"[{number}] {note}."
    used = {run.recipe.key(): run for entry in measured for run in entry.runs}.values()
    done = f"{len(_known(measured))} of {len(measured)} cells measured; runs {len(used)}"
    yield f"{done}{_seeds(measured)}; profile {table.profile}{_origin(used)}."
    other = Counter(run.images for run in used if run.images not in (None, "published"))
    for words, count in other.items():
        yield f"Not the published images in {count} of {len(used)} runs: {words}."
    yield from _tested(table, measured, used)
    if any(run.accuracy("balanced") is not None for run in used):
        yield "The test set is not balanced: top-1 is over its images, not the mean over its classes."
    edits = [name.rpartition(".") for variant in (*table.rows, *table.columns) for name in variant.edits]
    varied = {f"parent {name}" if owner == "parent" else name for owner, _, name in edits}
    departs = _distinct(
        f"{name} {fields.text(actual)} (default: {fields.text(default)})"
        for entry in measured
        if entry.cell.recipe
        for name, (actual, default) in table.settings.departures(
            entry.cell.recipe, entry.cell.reading, entry.cell.preset
        ).items()
        if name not in varied
    )
    if departs:
        yield f"Departs from the defaults (the paper's settings, as read here): {', '.join(departs)}."
    absent = [(entry.cell.row.title, entry.cell.missing) for entry in measured if entry.cell.missing]
    named = ((lack.status, f"{title} ({lack.name})") for title, lack in absent if lack.name)  # else the cell says so
    for status, places in _grouped(named).items():
        why = {"no method": "no method yet", "needs data": "no reader for the images yet"}[status]
        yield f"Not measured, {why}: {', '.join(_distinct(places))}."
    for reason, places in _grouped((entry.reason, _where(entry)) for entry in measured if entry.reason).items():
        yield f"Not measured: {'; '.join(places)}: {reason}."
    for entry in measured:
        for run in entry.diverged:
            yield f"Diverged, in no mean: {_where(entry)}, seed {run.recipe.seed} ({run.recipe.key()})."
    for words, keys in _grouped((provenance.changes_words(run.attempts), run.recipe.key()) for run in used).items():
        if words:
            yield f"Continued elsewhere, so level C ({words}): {', '.join(keys)}."


_TIERS = {
    "measured": "Published numbers are the paper's: ",
    "authors_code": "Published numbers are the authors', beside their code: ",
    "quoted": "† quoted by the paper, not measured in it:",
    "secondary": "‡ from a third party's transcription of the paper, not read in it:",
}


def _published(measured: Sequence[Measured]) -> Iterator[str]:
    """Yields where the published numbers were read, and the protocol of each."""
    printed = [(entry, entry.cell.published) for entry in measured if entry.cell.published]
    for tier, words in _TIERS.items():
        cells = [(entry, published.source) for entry, published in printed if published.tier == tier]
        if cells and words.endswith(" "):
            yield f"{words}{'; '.join(_distinct(source for _, source in cells))}."
        elif cells:
            yield words
            yield from (f"{words[0]} {places}: {source}." for source, places in _by_text(cells).items())
    if any(published.picture for _, published in printed):
        yield "§ read from a picture, by eye."
    protocols = _by_text([(entry, published.protocol) for entry, published in printed])
    for protocol, places in protocols.items():
        quoted = {published.tier == "quoted" for _, published in printed if published.protocol == protocol}
        others = {published.tier == "quoted" for _, published in printed if published.protocol != protocol}
        which = "" if not others else f" of {places}"
        if quoted.isdisjoint(others) and others:
            which = f" {'with' if quoted == {True} else 'without'} †"
        yield f"Protocol of the published numbers{which}: {protocol}."


def _by_text(cells: Sequence[tuple[Measured, str]]) -> dict[str, str]:
    """Returns the rows of each text, with columns where a row has several texts: text -> "LDAM-DRW; CE (ratio 10)"."""
    rows: dict[str, dict[str, list[str]]] = {}
    for entry, text in cells:
        rows.setdefault(entry.cell.row.title, {}).setdefault(text, []).append(entry.cell.column.title)
    places = _grouped(
        (text, row + (f" ({', '.join(columns)})" if len(texts) > 1 else ""))
        for row, texts in rows.items()
        for text, columns in texts.items()
    )
    return {text: "; ".join(words) for text, words in places.items()}


def _tested(table: Table, measured: Sequence[Measured], used: Iterable[Run]) -> Iterator[str]:
    """Yields how runs were trained and tested where that is not the same for all: statistics, precision."""
    read = [entry for entry in measured if entry.runs and not entry.cell.bn and entry.cell.code_bn != "running"]
    for bn in _distinct(entry.cell.code_bn for entry in read):
        with_them = _distinct(entry.cell.row.title for entry in read if entry.bn == bn)
        without = _distinct(entry.cell.row.title for entry in read if entry.bn != bn == entry.cell.code_bn)
        if with_them:
            yield f"Tested with {bn} BatchNorm statistics, as this reading's code tests: {', '.join(with_them)}."
        if without:
            yield f"This reading's code tests with {bn} statistics, which these rows' runs lack: {', '.join(without)}."
    for i, entry in enumerate(measured):
        trained, before = entry.precisions, measured[i % len(table.columns)].precisions
        if len(trained) > 1:
            yield f"Mixes runs trained in {' and '.join(trained)}: {_where(entry)}."
        elif table.ablation and trained and before and trained != before:
            yield f"A gain over runs trained in {' and '.join(before)}, not {trained[0]}: {_where(entry)}."
    tested = _grouped((run.test_precision or run.precision, run.recipe.key()) for run in used)
    if len(tested) > 1:
        older = next(precision for precision in tested if precision != "fp32")
        yield f"Tested in {older}, the others in fp32: {', '.join(tested[older])}."


def reading_line(recipe: Recipe, settings: Settings) -> str:
    """Returns which readings of the paper a recipe follows, or, where it follows none, what separates it from each."""
    away = {reading.title: settings.departures(recipe, name) for name, reading in settings.readings.items()}
    if followed := [title for title, pairs in away.items() if not pairs]:
        return f"reading: {' and '.join(followed)}"
    parts = [
        f"{title} has {', '.join(f'{name} {fields.text(usual)}' for name, (_, usual) in pairs.items())}"
        for title, pairs in away.items()
    ]
    return f"between the readings: {'; '.join(parts)}"


def _seeds(measured: Sequence[Measured]) -> str:
    result = _distinct(str(entry.n) for entry in measured if entry.runs)
    return f"; n {', '.join(result)}" if result else ""


def _origin(used: Iterable[Run]) -> str:
    facts: Mapping[str, Iterable[str]] = {
        "epochs": _distinct(_epochs(run.recipe) for run in used),
        "commit": _distinct(provenance.short(run.commit) for run in used),
        "on": _distinct(f"{run.device} in {run.precision}" for run in used),
        "torch": _distinct(run.versions.get("torch", "unknown") for run in used),
    }
    return "".join(f"; {name} {', '.join(result)}" for name, result in facts.items() if result)


def _epochs(recipe: Recipe) -> str:
    return " + ".join(str(stage.epochs) for stage in reversed(recipe.lineage()) if stage.method.param_groups)


def _where(entry: Measured) -> str:
    return f"{entry.cell.row.title}, {entry.cell.column.title}"


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Returns the second words by the first."""
    groups: dict[str, list[str]] = {}
    for first, second in pairs:
        groups.setdefault(first, []).append(second)
    return groups


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def one_line(text: str) -> str:
    """Returns a text without line breaks."""
    return " ".join(text.split())


def _plain(text: str) -> str:
    return re.sub(r"([\\|`*<])", r"\\\1", one_line(text))
