"""Rendered tables against slow arithmetic by hand, and each format in its own language."""

import csv
import io
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lt_repro.data.split import make_split
from lt_repro.papers.dbn_mix import PAPER as PAPER_OF
from lt_repro.papers.dbn_mix.rivals import TABLE2
from lt_repro.papers.dbn_mix.tables import FIG3A, TABLE4
from lt_repro.papers.table import ratios
from lt_repro.render import text
from lt_repro.render.cells import conflicts, measure, short_runs, to_json
from lt_repro.render.latex import latex
from lt_repro.store.runs import Run

PAPER = replace(TABLE4, rows=TABLE4.rows[:3], columns=TABLE4.columns[:1])
TABLE = TABLE4.with_settings(ratios(60), dataset="digits")
TABLE = replace(TABLE, rows=(*TABLE.rows[:4], TABLE.rows[5]))  # the vanilla row and each single ingredient
VANILLA, MIXUP, SCALED, BILATERAL, DUAL = range(5)
WHOLE = TABLE4.with_settings(ratios(60), dataset="digits")
VALUES = {
    VANILLA: (0.87, 0.88, 0.89),
    MIXUP: (0.83, 0.84, 0.82),
    SCALED: (0.872, 0.871, 0.88),
    BILATERAL: (0.93, 0.94),
}


def fake(recipe, accuracy, **changes):
    """A run as training would leave it; `accuracy` None is a diverged one."""
    group = accuracy if isinstance(accuracy, dict) else {"all": accuracy}
    values = {
        "status": "diverged" if accuracy is None else "done",
        "result": None if accuracy is None else {"accuracy": group, "per_class": [], "branches": {}},
        "diverged": {"epoch": 3, "step": 1} if accuracy is None else None,
        "curve": [],
        "history": {"loss": []},
        "split": {"digest": "5" * 64, "counts": [2, 1]},
        "data_digest": "d" * 64,
        "weights": None,
        "seconds": 1.0,
        "images_per_second": 1.0,
        "device": "cpu (x86_64, 2 threads)",
        "precision": "fp32",
        "versions": {"torch": "2.14.1"},
        "commit": "0123456789abcdef",
        "attempts": [],
        "parents": {},
        "command": "ltrepro train",
        "threads": 2,
        "determinism": "A",
    }
    return Run(recipe=recipe, **values | changes)


def runs_of(table, values):
    """Runs of the table's first column: values[row] is an accuracy a seed."""
    cells = list(table.cells())[:: len(table.columns)]
    pairs = [(cells[row].recipe.replace(seed=i), value) for row, each in values.items() for i, value in enumerate(each)]
    return [fake(recipe, value) for recipe, value in pairs]


def measured(values=VALUES):
    return measure(TABLE, runs_of(TABLE, values))


def by_column(table, cells, best=False):
    """The texts of the rows, by the title of a column and by what stands under it: (ratio 60, gain)."""
    header, lines, _ = text.rows(table, cells, best)
    assert {len(line) for line in lines} == {len(header)}
    titles, result, title = {column.title for column in table.columns}, {}, ""
    for name, texts in list(zip(header, zip(*lines, strict=True), strict=True))[1:]:
        title = name if name in titles else title
        result[title, "ours" if name == title else name] = list(texts)
    return result


def test_mean_spread_and_gain_by_hand():
    cells = measured()
    for row, values in VALUES.items():
        mean = sum(values) / len(values)
        assert cells[row].mean == pytest.approx(mean, abs=1e-15)
        assert cells[row].sd == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)))
        assert cells[row].seeds == list(range(len(values)))
    paired = ((0.93 - 0.87) + (0.94 - 0.88)) / 2  # not over seed 2, which only the vanilla row has
    gain, half = cells[BILATERAL].gain(cells[VANILLA])
    assert (gain, half) == (pytest.approx(paired), pytest.approx(0.0, abs=1e-12))
    assert paired != pytest.approx(cells[BILATERAL].mean - cells[VANILLA].mean)
    assert cells[DUAL].gain(cells[VANILLA]) is None


def test_order_and_repetition_of_runs_change_nothing():
    runs = runs_of(TABLE, VALUES)
    assert measure(TABLE, [*reversed(runs), *runs]) == measure(TABLE, runs)


def test_text_of_a_cell():
    cells = measure(TABLE, runs_of(TABLE, {VANILLA: (0.382,), MIXUP: (0.38, 0.39), SCALED: (None,)}))
    assert [cell.text() for cell in cells[:4]] == ["38.20 (1)", "38.50 ± 0.71 (2)", "—", "—"]
    assert [cell.status for cell in cells] == ["partial", "partial", "diverged", "missing", "missing"]
    columns = [column._replace(metric="few") for column in TABLE.columns]
    few = measure(replace(TABLE, columns=columns), runs_of(TABLE, {VANILLA: ({"all": 0.5, "many": 0.5},)}))
    assert (few[0].text(), few[0].mean, few[1].text()) == ("n/a", None, "—")


def test_diverged_run_is_left_out_and_named():
    cells = measured({VANILLA: (0.8, None, 0.9)})
    assert cells[0].mean == pytest.approx(0.85)
    assert (cells[0].seeds, cells[0].status) == ([0, 2], "partial")
    key = cells[0].diverged[0].recipe.key()
    assert f"Single branch, vanilla, ratio 60, seed 1 ({key})" in text.markdown(TABLE, cells)


def unknown(*subset):
    return None


def test_another_split_is_left_out_and_named():
    unexpected, *others = runs_of(TABLE, {VANILLA: (0.1, 0.2, 0.3)})
    unexpected = replace(unexpected, split={"digest": "0" * 64, "counts": [2, 1]}, path=Path("runs/odd.json"))
    kept, lines = conflicts([unexpected, *others], unknown)
    assert kept == others
    assert lines == ["skipped odd.json: different split of digits (ratio 60), 00000000 instead of 55555555"]
    assert conflicts([unexpected, others[0]], unknown)[0] == [unexpected]  # the first seen among equals
    elsewhere = replace(unexpected, recipe=unexpected.recipe.replace(split_seed=1))
    assert conflicts([elsewhere, *others], unknown) == ([elsewhere, *others], [])


def test_a_split_that_is_known_needs_no_majority():
    unexpected, *others = runs_of(TABLE, {VANILLA: (0.1, 0.2, 0.3)})
    asked, known = [], make_split(np.repeat((0, 1), 9), ratio=3)
    kept, lines = conflicts([unexpected, *others], lambda *subset: asked.append(subset) or known)
    assert (kept, len(lines), asked) == ([], 3, [("digits", 60.0, "exp", 0, 0)])


def test_other_pixels_are_kept_and_named():
    first, *others = runs_of(TABLE, {VANILLA: (0.1, 0.2, 0.3, 0.4)})
    others = [replace(run, data_digest="e" * 64) for run in others]
    kept, lines = conflicts([first, *others], unknown)
    assert kept == [first, *others]
    assert lines == [f"same split, other pixels: {first.recipe.key()} (dddddddd, not eeeeeeee), digits (ratio 60)"]


def test_short_runs_are_never_mixed_in():
    full = runs_of(TABLE, {VANILLA: (0.5,)})[0]
    short, long, other = (
        replace(full, recipe=full.recipe.replace(**c)) for c in ({"epochs": 2}, {"epochs": 999}, {"lr": 9.0})
    )
    runs = [short, long, other, full]
    assert short_runs(TABLE, runs) == [short]
    assert measure(TABLE, runs)[0].runs == (full,)


def test_json_is_the_pinned_one():
    answer = to_json(PAPER, measure(PAPER, runs_of(PAPER, {0: (0.38, 0.39), 2: (None,)})))
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    names = (
        "exhibit row column metric branch bn n seeds mean sd best_mean best_sd gain gain_ci95 gain_n published"
        " published_sd published_n source protocol tier read_from_picture measured_by_paper notes recipe reason"
        " status keys"
    )
    assert [list(cell) for cell in answer["cells"]] == [names.split()] * 3
    first, missing, diverged = answer["cells"]
    assert (first["exhibit"], first["row"], first["column"], first["metric"]) == ("table4", "sbn", "100", "all")
    assert (first["published"], first["measured_by_paper"], first["mean"]) == (0.3846, False, pytest.approx(0.385))
    assert (first["n"], first["seeds"], first["status"], len(first["keys"])) == (2, [0, 1], "partial", 2)
    assert first["keys"][0] == first["recipe"] == next(PAPER.cells()).recipe.key()
    assert (missing["n"], missing["mean"], missing["sd"], missing["status"]) == (0, None, None, "missing")
    assert (diverged["mean"], diverged["status"], diverged["keys"]) == (None, "diverged", [])
    assert [cell["status"] for cell in to_json(TABLE, measured())["cells"]][:5] == ["done"] * 3 + ["partial", "missing"]
    assert {cell["published"] for cell in to_json(TABLE, measured())["cells"]} == {None}


def test_markdown():
    unexpected = replace(PAPER, rows=(PAPER.rows[0]._replace(title="a | b"), *PAPER.rows[1:]))
    cells = measure(unexpected, runs_of(unexpected, {0: (0.38, 0.39), 2: (0.4325,)}))
    lines = text.markdown(unexpected, cells, ["damaged:\nx | y"]).splitlines()
    grid = [re.split(r"(?<!\\)\|", line) for line in lines if line.startswith("|")]
    header, rule, *rows = [[part.strip() for part in line[1:-1]] for line in grid]
    assert {(line[0], line[-1]) for line in grid} == {("", "")}
    assert header[:2] == ["top-1 accuracy, percent", "ratio 100"]
    assert rule == ["---", *["---:"] * (len(header) - 1)]
    shown = [dict(zip(header, row, strict=True)) for row in rows]
    names = ("top-1 accuracy, percent", "ratio 100", "published (difference)", "gain")
    assert tuple(name for name in header if name in names) == names
    assert [tuple(row[name] for name in names) for row in shown] == [
        (r"a \| b", "38.50 ± 0.71 (2)", "38.46† (+0.04)", ""),
        ("Single branch + mixup", "—", "39.54†", ""),
        ("Single branch + temperature", "43.25 (1)", "41.25 (+2.00)", "+5.25"),
    ]
    assert lines[0] == f"**{PAPER.caption}**"
    assert lines[-1] == r"- damaged: x \| y"


def test_footer_names_sources_origin_and_departures():
    table = PAPER.with_settings(epochs=2, alpha=0.5, gamma=1.0, flip=False, milestones=(0.5, 0.75))
    body = "\n".join(text.rows(table, measure(table, runs_of(table, {0: (0.38,)})))[2])
    assert "2 (default: 200)" in body
    assert "alpha 0.5 (default: 1)" in body
    assert "gamma" not in body  # without a reverse sampler it decides nothing
    assert "flip false (default: true)" in body
    assert "milestones 0.5,0.75 (default: 0.6,0.8)" in body
    assert body.count("epochs 2 (default") == 1
    assert (
        "1 of 3 cells measured; runs 1; n 1; profile set by hand; epochs 2; commit 01234567; "
        "on cpu (x86_64, 2 threads) in fp32; torch 2.14.1"
    ) in body
    short = PAPER.profiled("short")
    assert "; profile short; " in text.rows(short, measure(short, runs_of(short, {0: (0.3, 0.4), 1: (0.2,)})))[2][1]
    assert "; n 2, 1; " in text.rows(short, measure(short, runs_of(short, {0: (0.3, 0.4), 1: (0.2,)})))[2][1]
    assert "paper's:" not in body
    printed = "\n".join(text.rows(PAPER, measure(PAPER, []))[2])
    assert "Published numbers are the paper's: DBN-Mix, Table 4." in printed
    assert "† quoted by the paper, not measured in it:\n† Single branch, vanilla: DBN-Mix, Table 4, as in" in printed
    assert "Departs" not in printed
    assert "Departs" not in "\n".join(text.rows(FIG3A, measure(FIG3A, []))[2])  # eta and eps are what it varies


def test_gain_column_without_published_numbers():
    shown = by_column(TABLE, measured())
    assert not {name for _, name in shown} & {"published", "published (difference)"}
    gains = ["", "−5.00 ± 4.30", "−0.57 ± 1.65", "+6.00 ± 0.00", ""]  # the row's own seeds
    assert shown["ratio 60", "gain"] == gains


def test_a_gain_over_fewer_seeds_than_the_row_has_says_over_how_many():
    values = {VANILLA: (0.8, 0.81), MIXUP: (0.85, 0.86, 0.9), SCALED: (0.82, 0.84), BILATERAL: (0.9, None, 0.9)}
    cells = measured(values)
    foot = text.rows(TABLE, cells)[2]
    gains = ["", "+5.00 ± 0.00 (2)", "+2.50 ± 6.35", "+10.00 (1)", ""]
    assert by_column(TABLE, cells)["ratio 60", "gain"] == gains
    assert "with the number of pairs where it is not the row's n" in foot[0]
    assert [cell["gain_n"] for cell in to_json(TABLE, cells)["cells"]] == [None, 2, 2, 1, None]
    assert [line["gain_n"] for line in csv.DictReader(io.StringIO(text.csv(TABLE, cells)))] == ["", "2", "2", "1", ""]
    assert "(1)" in text.markdown(TABLE, cells)


def test_published_columns_only_where_there_is_a_number():
    table = TABLE4.with_settings(ratios(100, 20))
    shown = by_column(table, measure(table, [])).keys()
    assert shown >= {("ratio 100", "ours"), ("ratio 100", "published"), ("ratio 20", "ours")}
    assert not shown & {("ratio 20", "published"), ("ratio 100", "published (difference)"), ("ratio 100", "gain")}
    cells = measure(table, runs_of(table, {0: (0.38, 0.39), 3: (0.44,)}))
    footer = text.rows(table, cells)[2]
    row = {name: texts[3] for (title, name), texts in by_column(table, cells).items() if title == "ratio 100"}
    expected = {"ours": "44.00 (1)", "published (difference)": "44.10 (−0.10)", "gain": "+6.00"}
    assert {name: row[name] for name in expected} == expected
    assert by_column(table, cells)["ratio 20", "ours"][3] == "—"
    assert "difference: ours − published" in footer[0]
    assert "gain: over the first row" in footer[0]


def test_csv_parses_back_to_the_same_numbers():
    for table, values in ((TABLE, VALUES), (PAPER, {0: (0.38, 0.39)}), (TABLE4, {0: (0.1,), 3: (0.3,)})):
        cells = measure(table, runs_of(table, values))
        lines = list(csv.DictReader(io.StringIO(text.csv(table, cells)), strict=True))
        assert len(lines) == len(cells)
        for line, cell in zip(lines, to_json(table, cells)["cells"], strict=True):
            assert tuple(line) == text.CSV_FIELDS
            for name in ("mean", "sd", "published", "gain", "gain_ci95", "best_mean", "best_sd"):
                back = float(line[name]) / 100 if line[name] else None
                assert back == (None if cell[name] is None else pytest.approx(cell[name], abs=1e-8))
            assert (line["unit"], line["keys"].split()) == ("percent", cell["keys"])
    golden = 'table4,sbn+bm,100,all,,percent,1,0,30.0,,,,44.1,"DBN-Mix, Table 4",true,20.0,,1,partial,'
    assert text.csv(TABLE4, cells).splitlines()[1 + 3 * len(TABLE4.columns)].startswith(golden)


def test_the_best_on_test_stands_beside_the_last_epoch_and_is_labelled():
    pairs = [(run, {"epoch": 3, "all": run.result["accuracy"]["all"] + 0.01}) for run in runs_of(TABLE, VALUES)]
    cells = measure(TABLE, [replace(run, result=run.result | {"best": best}) for run, best in pairs])
    footer = text.rows(TABLE, cells, best=True)[2]
    shown = by_column(TABLE, cells, best=True)
    pairs_shown = list(zip(shown["ratio 60", "ours"], shown["ratio 60", "best on test"], strict=True))
    assert pairs_shown[VANILLA] == ("88.00 ± 1.00 (3)", "89.00 ± 1.00")
    assert pairs_shown[DUAL] == ("—", "")
    assert "chosen on the test set, which is no result" in footer[0]
    assert "best on test" not in text.markdown(TABLE, cells)
    few = measure(replace(TABLE, columns=[TABLE.columns[0]._replace(metric="few")]), [run for run, _ in pairs])
    assert few[0].best == (None, None)
    assert to_json(TABLE, cells)["cells"][0]["best_mean"] == pytest.approx(0.89)


def test_the_document_has_the_cells_and_the_footer():
    document = text.document(TABLE, measured(), ["damaged: x"])
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["exhibit"], document["caption"]) == (TABLE.id, TABLE.caption)
    assert document["footer"] == [*text.rows(TABLE, measured())[2], "damaged: x"]
    assert document["cells"] == to_json(TABLE, measured())["cells"]


def checked(source):
    """The columns and lines of a LaTeX tabular, after what makes it valid has been checked."""
    assert source.startswith("% needs")
    source = re.sub(r"(?m)^%.*\n", "", source)
    bare = re.sub(r"\\[&%$#_{}]", "", source)
    depth = 0
    for sign in bare:
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    assert not set("†±−—∞~^#_") & set(bare)
    assert "%" not in bare
    marks = re.findall(r"\\(begin|end)\{(\w+)\}", source)
    assert marks == [("begin", "tabular"), ("end", "tabular")]
    spec = re.match(r"\\begin\{tabular\}\{(lr*)\}", bare)[1]
    lines = [line for line in bare.splitlines() if line.endswith(r"\\")]
    width = [sum(int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", lines[0])) + 1]
    assert width + [line.count("&") + 1 for line in lines[1:]] == [len(spec)] * len(lines)
    return len(spec), lines


def test_latex():
    row = PAPER.rows[0]._replace(title=r"50% & a_b #1 $ {x} ~^ \y [z]")
    table = replace(PAPER, rows=(row, *PAPER.rows[1:]), exhibit="odd_id")
    source = latex(table, measure(table, runs_of(table, {0: (0.38, 0.37)})), ["99% {of"])
    assert len(checked(source)[1]) == 5
    title = r"50\% \& a\_b \#1 \$ \{x\} \textasciitilde{}\textasciicircum{} \textbackslash{}y {[}z] & "
    lines = [line.removesuffix(r" \\").split(" & ") for line in source.splitlines() if line.startswith(title)]
    shown = {word for line in lines for word in line}
    assert shown >= {r"\textbf{37.50 $\pm$ 0.71 (2)}", r"38.46\textdagger{} ($-$0.96)"}


def test_latex_has_the_best_in_bold_and_the_chosen_spread():
    table = TABLE.only(["sbn", "sbn+mixup"], None)
    cells = measure(table, runs_of(table, {0: (0.80, 0.82), 1: (0.85, 0.89)}))
    bodies = {pm: checked(latex(table, cells, pm=pm))[1][1:] for pm in ("sd", "interval", "gain")}
    assert bodies == {
        "sd": [
            r"Single branch, vanilla & 81.00 $\pm$ 1.41 (2) \\",
            r"Single branch + mixup & \textbf{87.00 $\pm$ 2.83 (2)} \\",
        ],
        "interval": [
            r"Single branch, vanilla & 81.00 $\pm$ 12.71 (2) \\",
            r"Single branch + mixup & \textbf{87.00 $\pm$ 25.41 (2)} \\",
        ],
        "gain": [
            r"Single branch, vanilla & 81.00 \\",
            r"Single branch + mixup & \textbf{87.00 (+6.00 $\pm$ 12.71)} \\",
        ],
    }
    fewer = measure(table, runs_of(table, {0: (0.80,), 1: (0.85, 0.89)}))
    assert r"Single branch + mixup & \textbf{87.00 (+5.00 (1))} \\" in checked(latex(table, fewer, pm="gain"))[1]


def test_columns_without_a_run_are_left_out_of_markdown_and_stay_in_csv():
    table = TABLE4.with_settings(ratios(100, 20))
    cells = measure(table, runs_of(table, {0: (0.38,)}))
    page = text.markdown(table, cells)
    assert "ratio 100" in page
    assert "ratio 20" not in page
    assert "- 1 of 2 columns have no run and are not shown; the CSV file has them all." in page.splitlines()
    assert {line["column"] for line in csv.DictReader(io.StringIO(text.csv(table, cells)))} == {"100", "20"}
    assert "ratio 20" in text.markdown(table, measure(table, []))


BOOKTABS = ["kpsewhich", "booktabs.sty"]
LATEX = (
    all(map(shutil.which, ("pdflatex", "kpsewhich"))) and not subprocess.run(BOOKTABS, capture_output=True).returncode
)


def everything(table):
    """Every cell of a table measured, with everything that can be shown beside it."""
    accuracy = dict.fromkeys(("all", "many", "medium", "few"), 0.4321)
    best = {"epoch": 3, "all": 0.5}
    for recipe in table.recipes():
        branches = {name: {"accuracy": accuracy} for name in recipe.spec.branches}
        yield replace(fake(recipe, accuracy), result={"accuracy": accuracy, "branches": branches, "best": best})


def test_latex_of_every_table_is_one_tabular_and_compiles(tmp_path):
    sources = []
    tables = [exhibit for tables in PAPER_OF.exhibits.values() for exhibit in tables if exhibit.form == "table"]
    assert TABLE4 in tables
    for table in tables:
        for runs in ([], everything(table)):
            cells = measure(table, runs)
            sources.append(latex(table, cells, best=True))
            width, lines = checked(sources[-1])
            names = [name for _, parts in text.columns_of(table, cells, best=True) for name in parts if name != "gain"]
            assert width == len(names) + 1
            assert len(lines) == len(table.rows) + (1 if {*names} == {"ours"} else 2)
    if not LATEX:
        pytest.skip("needs pdflatex with booktabs")
    body = "\n\\clearpage\n".join(sources)
    (tmp_path / "all.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    )
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


def two(values):
    sentences = text.sentences(TABLE, measured(values))
    parts = re.split(r"(?<=\.) (?=[A-Z])", sentences)
    assert len(parts) == 2
    assert all(part.endswith(".") for part in parts)
    return parts


def test_sentences_on_a_gain():
    first, second = two(VALUES | {BILATERAL: (0.93, 0.95, 0.934)})
    p = stats.ttest_rel((0.93, 0.95, 0.934), VALUES[VANILLA]).pvalue
    assert first == (
        '"Single branch, vanilla" reaches 88.00 ± 1.00 % (n = 3); the best of the 4 measured rows, '
        '"Single branch + bilateral mixup", reaches 93.80 ± 1.06 % (n = 3), a gain of +5.80 ± 3.26 points '
        f"paired over 3 seeds, significant after Holm's correction over 3 rows (p = {3 * p:.3g})."
    )
    assert second == (
        "Taken one at a time, after Holm's correction over 3 rows, bilateral mixup adds 5.80 ± 3.26 points; mixup "
        "(−5.00 ± 4.30) and temperature (−0.57 ± 1.65) are not significant; dual branch cannot be compared yet."
    )


def test_a_gain_whose_own_interval_excludes_0_is_not_significant_as_the_best_of_several():
    gain = {VANILLA: (0.8, 0.81, 0.82), BILATERAL: (0.85, 0.87, 0.89)}  # +6.00 ± 2.48, p = 0.0092
    others = dict.fromkeys((MIXUP, SCALED, DUAL), (0.8, 0.82, 0.81))
    p = stats.ttest_rel(gain[BILATERAL], gain[VANILLA]).pvalue
    first, second = two(gain)
    assert first.endswith(f"+6.00 ± 2.48 points paired over 3 seeds, significant (p = {p:.3g}).")
    assert second.startswith(
        "Taken one at a time, bilateral mixup adds 6.00 ± 2.48 points; mixup, temperature and dual"
    )
    first, second = two(gain | others)
    assert first.endswith(f"3 seeds, significant after Holm's correction over 4 rows (p = {4 * p:.3g}).")
    twice = measure(WHOLE, runs_of(WHOLE, gain | dict.fromkeys((1, 2, 4, 5, 6), (0.8, 0.82, 0.81))))
    assert 4 * p < 0.05 < 6 * p
    first, second = re.split(r"(?<=\.) (?=[A-Z])", text.sentences(WHOLE, twice))
    assert first.endswith(f"3 seeds, not significant after Holm's correction over 6 rows (p = {6 * p:.3g}).")
    assert "after Holm's correction over 4 rows, bilateral mixup adds 6.00 ± 2.48 points; mixup (" in second
    close = measured(gain | others | {BILATERAL: (0.85, 0.875, 0.90)})  # +6.50 ± 3.73, p = 0.017
    assert "bilateral mixup (+6.50 ± 3.73)" in text.sentences(TABLE, close).partition(";")[2]
    assert "adds" not in text.sentences(TABLE, close)


def test_sentences_on_a_loss_and_on_nothing():
    first, second = two({VANILLA: (0.9, 0.92), MIXUP: (0.8, 0.81), DUAL: (0.7, 0.71)})
    assert "no other row reaches more, the best of them" in first
    assert '"Single branch + mixup", reaches 80.50 ± 0.71 % (n = 2), a difference of −10.50 ± 6.35 points' in first
    assert first.endswith(", significant after Holm's correction over 2 rows (p = 0.031).")  # 2 x dual branch's
    assert "over 2 rows, mixup costs 10.50 ± 6.35 points and dual branch costs 20.50 ± 6.35 points; temp" in second
    assert "temperature and bilateral mixup cannot be compared yet" in second
    first, second = two({VANILLA: (0.9, 0.9), MIXUP: (0.9, 0.9)})
    assert "no other row reaches more" in first
    assert first.endswith("a difference of 0.00 ± 0.00 points paired over 2 seeds, not significant (p = 1).")
    assert "Taken one at a time, mixup (0.00 ± 0.00) is not significant" in second


def test_sentences_on_one_seed_on_ties_and_on_unshared_seeds():
    first, second = two({VANILLA: (0.8,), MIXUP: (0.9,), DUAL: (0.9,), SCALED: (0.8,)})
    assert '"Single branch + mixup" (level with "Dual branch"), reaches 90.00 % (n = 1)' in first
    assert "a gain of +10.00 points on one seed, with one seed, no interval" in first
    assert "mixup adds 10.00 points, temperature changes less than 0.01 points and dual branch adds 10.00" in second
    assert "points, on one seed, with one seed, no interval; bilateral mixup cannot be compared yet." in second
    first, second = two({VANILLA: (0.8, None), MIXUP: (None, 0.9)})
    assert first.endswith("reaches 90.00 % (n = 1), but the two share no seed to pair.")
    assert second == "Taken one at a time, mixup, temperature, bilateral mixup and dual branch cannot be compared yet."


def test_sentences_without_anything_to_compare():
    assert text.sentences(TABLE, measured({MIXUP: (0.5,), DUAL: (0.6,)})) == (
        'Nothing can be compared yet: the first row, "Single branch, vanilla", has no number.'
    )
    assert text.sentences(TABLE, measured({VANILLA: (0.5,)})) == (
        'Nothing can be compared yet: no other row has a number where the first row, "Single branch, vanilla", has one.'
    )
    assert " (ratio 100); " in text.sentences(TABLE4, measure(TABLE4, runs_of(TABLE4, {0: (0.1,), 1: (0.2,)})))


def test_the_footer_names_runs_that_were_continued_elsewhere():
    runs = runs_of(TABLE, {VANILLA: (0.1, 0.2)})
    places = [{"epoch": 0, "step": 0, "ended": "stopped"}, {"epoch": 2, "step": 0, "ended": "done"}]
    origins = [{"versions": {"torch": version}, "commit": "a", "device": "cpu", "threads": 1} for version in ("1", "2")]
    split = [place | origin for place, origin in zip(places, origins, strict=True)]
    moved = replace(runs[0], attempts=split, determinism="C")
    foot = text.rows(TABLE, measure(TABLE, [moved, replace(runs[1], attempts=split, determinism="C")]))[2]
    keys = f"{runs[0].recipe.key()}, {runs[1].recipe.key()}"
    assert foot[-1] == f"Continued elsewhere, so level C (torch 1 then 2): {keys}."
    whole = replace(runs[1], attempts=[place | origins[0] for place in places])
    foot = text.rows(TABLE, measure(TABLE, [moved, whole]))[2]
    assert foot[-1] == f"Continued elsewhere, so level C (torch 1 then 2): {moved.recipe.key()}."
    old = replace(runs[0], attempts=places)  # of a file that does not say where
    assert not any("elsewhere" in line for line in text.rows(TABLE, measure(TABLE, [old, whole]))[2])


def test_a_cell_without_a_reader_for_its_images_says_which_they_are():
    cells = measure(TABLE2, [])
    (kinds,) = {(cell["status"], cell["reason"]) for cell in to_json(TABLE2, cells)["cells"] if cell["recipe"]}
    assert kinds == ("needs data", "needs data imagenet_lt")
    (line,) = [line for line in text.footer(TABLE2, cells, best=False) if line.startswith("Not measured")]
    assert line.startswith("Not measured, no reader for the images yet: ")
    assert f"{TABLE2.rows[-1].title} (imagenet_lt)" in line


def test_the_footer_says_which_runs_have_other_images_than_the_published_ones():
    runs = runs_of(TABLE, {VANILLA: (0.1, 0.2, 0.3)})
    shown = "\n".join(text.rows(TABLE, measure(TABLE, [replace(runs[0], images="published"), *runs[1:]]))[2])
    assert "published images" not in shown
    words = "2 images with another label"
    others = [replace(run, images=words) for run in runs[:2]]
    for content in (
        text.rows(TABLE, measure(TABLE, [*others, runs[2]]))[2],
        text.markdown(TABLE, measure(TABLE, [*others, runs[2]])).splitlines(),
    ):
        (line,) = [line for line in content if "published images" in line]
        assert line.removeprefix("- ") == f"Not the published images in 2 of 3 runs: {words}."
