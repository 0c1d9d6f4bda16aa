"""The last lambdas of a run: drawn again they are those of training, and x, slope and r are what their words say."""

import csv as comma
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_render import fake
from torch import nn

from lt_repro.data.load import known_split
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.papers.dbn_mix.settings import recipe
from lt_repro.papers.dbn_mix.tables import LAMBDAS
from lt_repro.render import lambdas
from lt_repro.render.cells import measure
from lt_repro.render.lambdas import Change, changes, csv, fit, remembered, rows, to_json
from lt_repro.render.percent import points, signed
from lt_repro.store.runs import load_runs
from lt_repro.train.batches import Source, draw_epoch, load_batches

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/batchnorm-and-mixup.md").read_text()
WORDS = " ".join(PAGE.split())
COUNTS = known_split(*recipe("cifar100").subset).counts


def run_of(made, *curve, counts=COUNTS):
    points = [{"epoch": epoch, "all": value} for epoch, value in curve]
    return fake(made, 0.4, curve=points, split={"digest": "5" * 64, "counts": [int(count) for count in counts]})


def slow_x(lam):
    """From the definition: every step by itself, the oldest counting least."""
    above = below = 0.0
    for step, values in enumerate(lam):
        each = [max(float(v), 1 - float(v)) for v in np.atleast_1d(values)]
        weight = 0.9 ** (len(lam) - 1 - step)
        above += weight * sum(each) / len(each)
        below += weight
    return above / below


@pytest.mark.parametrize("shape", [(1,), (7,), (85,), (85, 6)], ids=str)
def test_x_is_the_weighted_mean_of_the_larger_share(shape):
    lam = np.random.default_rng(3).random(shape).astype(np.float32)
    assert remembered(lam) == pytest.approx(slow_x(lam), abs=1e-6)
    assert remembered(1 - lam) == pytest.approx(remembered(lam), abs=1e-6)


def test_x_remembers_the_last_steps_and_knows_its_ends():
    assert remembered(np.ones(85, np.float32)) == pytest.approx(1.0)
    assert remembered(np.full(85, 0.5, np.float32)) == pytest.approx(0.5)
    late, early = np.full(85, 0.5, np.float32), np.full(85, 0.5, np.float32)
    late[-10:], early[:10] = 1.0, 1.0
    assert remembered(late) == pytest.approx(0.5 + 0.5 * (1 - 0.9**10), abs=1e-3)
    assert remembered(early) == pytest.approx(0.5, abs=1e-3)


def test_what_a_batch_leaves_is_what_the_networks_keep():
    net = ResNet("resnet8", recipe("digits").spec, 10, (0.0,) * 3, (1.0,) * 3)
    kept = {1 - module.momentum for module in net.modules() if isinstance(module, nn.BatchNorm2d)}
    assert sorted(kept) == [pytest.approx(lambdas.KEPT)]


MIXED = {
    "dual": {"branches": 2, "mix": "bilateral", "tscale": True},
    "single": {"mix": "bilateral"},
    "mixup": {"mix": "mixup"},
    "alpha": {"mix": "mixup", "alpha": 0.2},
    "sample": {"mix": "bilateral", "lam_per": "sample"},
    "short epochs": {"mix": "bilateral", "epoch_steps": 3},
    "balanced epochs": {"mix": "bilateral", "epoch_images": "balanced"},
}


@pytest.mark.parametrize("edits", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("seed", [0, 2])
def test_lambdas_are_those_that_a_training_step_gets(edits, seed):
    counts = np.array([60, 46, 36, 28, 21, 16, 13, 10, 8, 6])
    made = recipe("digits", ratio=10.0, batch=16, epochs=4, seed=seed, **edits)
    labels = torch.from_numpy(np.repeat(np.arange(10), counts))
    source = Source(torch.zeros(len(labels), 10, 10, 1, dtype=torch.uint8), labels, counts)
    for epoch in (1, 4):
        inputs = draw_epoch(made, {"train": source}, epoch - 1, torch.device("cpu"))
        steps = len(inputs.progress)
        result = lambdas.lambdas(run_of(made, counts=counts), epoch)
        assert len(result) == steps
        for step in range(steps):
            _, random = load_batches(inputs, {"train": source}, step, made.crop)
            given = random["lam"].numpy()
            assert np.array_equal(result[step][: len(given)] if given.ndim else result[step], given)


def test_lambdas_of_another_seed_or_epoch_are_others():
    made = run_of(recipe("cifar100", mix="bilateral", seed=1))
    assert len(lambdas.lambdas(made, 200)) == 85
    assert np.array_equal(
        lambdas.lambdas(run_of(recipe("cifar100", mix="mixup", seed=1)), 200), lambdas.lambdas(made, 200)
    )
    assert not np.array_equal(lambdas.lambdas(made, 199), lambdas.lambdas(made, 200))
    assert not np.array_equal(lambdas.lambdas(made, 200, seed=0), lambdas.lambdas(made, 200))
    assert np.array_equal(lambdas.lambdas(made, 200, seed=1), lambdas.lambdas(made, 200))


def test_x_of_short_epochs_reaches_into_those_before():
    made = run_of(recipe("cifar100", mix="bilateral", epoch_steps=5))
    drawn = [lambdas.lambdas(made, epoch) for epoch in range(1, 201)]
    assert len(drawn[0]) == 5
    assert lambdas.x_of(made, 200) == pytest.approx(slow_x(np.concatenate(drawn)), abs=1e-3)
    assert lambdas.x_of(made, 200) != pytest.approx(slow_x(drawn[-1]), abs=1e-3)
    assert lambdas.x_of(made, 1) == pytest.approx(slow_x(drawn[0]), abs=1e-6)
    long = run_of(recipe("cifar100", mix="bilateral"))
    assert lambdas.x_of(long, 200) == pytest.approx(slow_x(lambdas.lambdas(long, 200)), abs=1e-6)


def test_a_run_that_mixes_nothing_has_no_x():
    cells = measure(LAMBDAS, [run_of(cell.recipe, (190, 0.4), (200, 0.41)) for cell in LAMBDAS.cells()])
    result = changes(cells)
    unmixed = {row.title for row in LAMBDAS.rows if row.edits.get("mix", "none") == "none"}
    assert len(unmixed) == 4
    assert {change.series for change in result if change.x is None} == unmixed
    assert all((change.moved is None) == (change.x is None) for change in result)
    assert lambdas.lambdas(run_of(recipe("cifar100")), 200) is None


def test_changes_are_between_neighbouring_points_of_the_curve():
    cell = next(LAMBDAS.cells())
    made = run_of(cell.recipe, (170, 0.40), (180, 0.42), (190, 0.41), (200, 0.415))
    (last,) = changes(measure(LAMBDAS, [made]))
    assert (last.epochs, last.accuracy) == ((190, 200), (0.41, 0.415))
    assert last.points == pytest.approx(0.5)
    assert last.x == tuple(lambdas.x_of(made, epoch) for epoch in (190, 200))
    (earlier,) = changes(measure(LAMBDAS, [made]), earlier=2)
    assert (earlier.epochs, earlier.points) == ((170, 180), pytest.approx(2.0))
    for short in ([], [(200, 0.4)]):
        assert changes(measure(LAMBDAS, [run_of(cell.recipe, *short)])) == []
    assert changes(measure(LAMBDAS, [made]), earlier=3) == []


def made_up(pairs, mixed=True):
    """Changes of x and of accuracy in points, each of a seed of its own."""
    cell = next(LAMBDAS.cells())
    return [
        Change(
            "row",
            run_of(cell.recipe.replace(seed=seed)),
            (190, 200),
            (0.75, 0.75 + dx) if mixed else None,
            (0.4, 0.4 + dy / 100),
        )
        for seed, (dx, dy) in enumerate(pairs)
    ]


def test_the_line_of_a_case_computed_by_hand():
    """x: 0, 1, 2, 3 and y: 1, 3, 2, 5 (times 0.01 and 0.1): S_xx = 5, S_yy = 8.75, S_xy = 5.5."""
    pairs = [(0.00, 0.1), (0.01, 0.3), (0.02, 0.2), (0.03, 0.5)]
    line = fit(made_up(pairs) + made_up([(0.0, 9.0)], mixed=False))
    assert (line.n, line.seeds) == (4, 4)
    assert line.slope == pytest.approx(10 * 5.5 / 5)
    assert line.r == pytest.approx(5.5 / (5 * 8.75) ** 0.5)
    assert line.intercept == pytest.approx(0.1 * (2.75 - 1.1 * 1.5))


def test_there_is_no_line_through_too_little():
    assert fit([]) is None
    assert fit(made_up([(0.0, 0.1), (0.01, 0.3)])) is None
    assert fit(made_up([(0.01, 0.1), (0.01, 0.3), (0.01, 0.2)])) is None
    assert fit(made_up([(0.0, 0.1), (0.01, 0.1), (0.02, 0.1)])) is None
    assert fit(made_up([(0.0, 0.1), (0.01, 0.3), (0.02, 0.2)], mixed=False)) is None


def test_other_seeds_reach_any_r_if_it_is_low_and_hardly_one_that_is_their_own():
    cells = [cell for cell in LAMBDAS.cells() if cell.row.label == "dbn+bm+ts"]
    seeds = range(5)
    result = changes_of(cells[0].recipe, seeds, lambda moved: 10 * moved)
    line = fit(result)
    assert (line.r, line.chance) == (pytest.approx(1.0), 0.0)
    backwards = changes_of(cells[0].recipe, seeds, lambda moved: -10 * moved)
    line = fit(backwards)
    assert (line.r, line.chance) == (pytest.approx(-1.0), 1.0)
    noise = dict(zip(seeds, np.random.default_rng(0).normal(size=len(seeds)), strict=True))
    unrelated = fit(changes_of(cells[0].recipe, seeds, lambda moved: noise.popitem()[1]))
    assert unrelated.chance == pytest.approx(chance_of(unrelated.r, len(seeds)), abs=0.06)


def changes_of(made, seeds, points):
    """Changes with the real lambdas of each seed and made-up points."""
    result = []
    for seed in seeds:
        run = run_of(made.replace(seed=seed))
        x = tuple(lambdas.x_of(run, epoch) for epoch in (190, 200))
        result.append(Change("row", run, (190, 200), x, (0.4, 0.4 + points(x[1] - x[0]) / 100)))
    return result


def chance_of(r, n):
    """How often n unrelated normal pairs have such an r, by trial."""
    a, b = np.random.default_rng(1).normal(size=(2, 20000, n))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return np.mean((a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1)) >= r)


def test_rows_csv_and_json_have_a_line_for_each_run():
    cells = {cell.row.label: cell.recipe for cell in LAMBDAS.cells()}
    runs = [run_of(cells["dbn+bm+ts"].replace(seed=s), (190, 0.4), (200, 0.41 + s / 100)) for s in range(3)]
    result = changes(measure(LAMBDAS, [*runs, run_of(cells["sbn"], (190, 0.4), (200, 0.398))]))
    header, listed = rows(result)
    assert len(header) == len(listed[0]) == 6
    assert [row[-1] for row in listed] == ["+1.00", "+2.00", "+3.00", "−0.20"]
    assert listed[-1][3:5] == ["—", "—"]
    lines = list(comma.DictReader(io.StringIO(csv(result))))
    assert [line["seed"] for line in lines] == ["0", "1", "2", "0"]
    assert [float(line["accuracy_change"]) for line in lines] == pytest.approx([1.0, 2.0, 3.0, -0.2])
    assert float(lines[0]["x_change"]) == pytest.approx(result[0].moved, abs=1e-6)
    assert (lines[3]["x_before"], lines[3]["x_change"]) == ("", "")
    assert [line["key"] for line in lines] == [change.run.recipe.key() for change in result]
    content = json.loads(json.dumps(to_json(result, fit(result)), allow_nan=False))
    assert content["fit"]["n"] == 3
    assert [entry["x"] is None for entry in content["changes"]] == [False, False, False, True]
    assert to_json(result[3:], None)["fit"] is None


def test_reproduce_writes_the_figure_and_its_numbers(run):
    words = ["reproduce", "lambdas", "--render-only", "--runs", str(ROOT / "tables/runs")]
    for reading, stem in (("paper", "lambdas"), ("released", "lambdas@released")):
        code, out, err = run(*words, "--reading", reading)
        assert code == 0, err
        assert "points per unit of x" in out
        root = ROOT / "figures"
        assert Path(f"figures/{stem}.csv").read_text() == (root / f"{stem}.csv").read_text()
        for kind in ("png", "svg"):
            assert str(Path("figures") / f"{stem}.{kind}") in out.splitlines()
    assert run(*words, "--json")[1].count('"fit"') == 1


def test_the_numbers_need_no_torch():
    code = "import sys, lt_repro.render.lambdas; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def measured():
    """The exhibit's cells in both readings, from the committed runs."""
    result, bad = load_runs([ROOT / "tables/runs"])
    assert not bad
    return {"paper": measure(LAMBDAS, result), "released": measure(LAMBDAS.read_as("released"), result)}


def between(measured, earlier, readings=("paper", "released")):
    return [change for reading in readings for change in changes(measured[reading], earlier)]


CHOSEN = {  # runs of a line of the page
    "DBN-Mix, the released code": (["released"], "Dual branch + both (DBN-Mix)"),
    "two branches, mixed": (["paper", "released"], "Dual"),
    "one branch, mixed": (["paper", "released"], "Single"),
    "all mixed runs": (["paper", "released"], ""),
}


def test_the_page_has_the_lines_that_the_stored_runs_give(measured):
    for title, (readings, beginning) in CHOSEN.items():
        parts = []
        for earlier in (0, 2):
            chosen = [c for c in between(measured, earlier, readings) if c.series.startswith(beginning)]
            line = fit(chosen)
            parts.append(f"{line.r:.2f} | {line.slope:.1f} | {line.n} | {100 * line.chance:.1f} %")
        assert f"| {title} | {' | '.join(parts)} |\n" in PAGE
    both, whole = (fit([c for e in which for c in between(measured, e)]) for which in ((0, 2), (0, 1, 2)))
    assert f"r = {both.r:.2f}, and {lambdas.TRIES * both.chance:.0f} of 1,000 tries reach it" in WORDS
    assert f"with it r is {whole.r:.2f}.)" in WORDS


def test_the_page_has_x_of_each_seed_and_what_it_is_worth(measured):
    mixed = {c.run.recipe.seed: c.run for c in between(measured, 0) if c.moved is not None}
    last = {}
    for seed, run in mixed.items():
        values = [lambdas.x_of(run, epoch) for epoch in (170, 180, 190, 200)]
        assert f"| seed {seed} | {' | '.join(f'{value:.3f}' for value in values)} |\n" in PAGE
        last[seed] = values[-1]
    assert sorted(last) == [0, 1, 2]
    worth = [fit(changes(measured[reading])).slope * (last[0] - 0.75) for reading in ("paper", "released")]
    assert f"x = {last[0]:.3f}, {last[0] - 0.75:.3f} above the average" in WORDS
    assert "worth {:.1f} points with the text's slope and {:.1f} with the code's".format(*worth) in WORDS
    mean = np.mean([*last.values()])
    assert f"(x is {mean:.3f} on average) are about {worth[1] * (mean - 0.75) / (last[0] - 0.75):.1f} too high" in WORDS
    weights = lambdas.KEPT ** np.arange(85)
    spread = np.sqrt((weights**2).sum() / 48) / weights.sum()  # max(u, 1 - u) has a variance of 1/48
    assert f"with a standard deviation of {spread:.3f} over seeds" in WORDS
    moves = [spread * fit(changes(measured[reading])).slope for reading in ("paper", "released")]
    assert WORDS.count("{:.1f} to {:.1f} points".format(*moves)) == 2


def test_the_page_has_the_control_of_seed_0(measured):
    shown = {"of x": [], "four mixed rows": [], "two rows without mixing": []}
    for earlier in (2, 1, 0):
        result = [c for c in between(measured, earlier, ["paper"]) if c.run.recipe.seed == 0]
        mixed = [c for c in result if c.moved is not None]
        assert (len(mixed), len(result)) == (4, 6)
        shown["of x"].append(signed(mixed[0].moved, 3))
        shown["four mixed rows"].append(points(np.mean([c.points for c in mixed]) / 100))
        shown["two rows without mixing"].append(points(np.mean([c.points for c in result[4:]]) / 100))
    for title, texts in shown.items():
        assert f"| {title} | {' | '.join(texts)} |\n" in PAGE


def test_the_page_has_what_x_does_not_explain(measured):
    texts = []
    for reading in ("released", "paper"):
        slope = fit(changes(measured[reading])).slope
        for row in ("sbn+bm+ts", "dbn+bm+ts"):
            (entry,) = [entry for entry in measured[reading] if entry.cell.row.label == row]
            level = [100 * run.accuracy() - slope * lambdas.x_of(run, 200) for run in entry.runs]
            texts.append(f"{100 * entry.sd:.2f} to {np.std(level, ddof=1):.2f}")
    assert "{} for SBN-Mix and from {} for DBN-Mix with the released code".format(*texts[:2]) in WORDS
    assert "with the text's recipe it goes from {} and from {}.".format(*texts[2:]) in WORDS
    raw = []
    for earlier in (0, 2):
        chosen = [c for c in between(measured, earlier) if c.series.startswith("Single") and c.moved is not None]
        weights = 0.9 ** np.arange(85)[::-1] / (0.9 ** np.arange(85)).sum()
        moved = [np.diff([lambdas.lambdas(c.run, epoch) @ weights for epoch in c.epochs])[0] for c in chosen]
        raw.append(np.corrcoef(moved, [c.points for c in chosen])[0, 1])
    assert "r of one mixed branch is {:.2f} (190 to 200) and {:.2f} (170 to 180)".format(*raw) in WORDS
    digits = LAMBDAS.with_settings(dataset="digits", ratio=60.0)
    line = fit(changes(measure(digits, load_runs([ROOT / "tables/runs"])[0])))
    assert f"(r = {line.r:.2f}, n = {line.n})".replace("-", "−") in WORDS
