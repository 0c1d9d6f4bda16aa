"""What is shown while runs train: a line for one, a board for several, which fit the terminal and count right."""

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from lt_repro.cli import progress
from lt_repro.data.load import load_pool
from lt_repro.papers.dbn_mix.settings import recipe
from lt_repro.papers.dbn_mix.tables import TABLE4, TABLE6A
from lt_repro.sweep.progress import RunProgress
from lt_repro.sweep.runner import run_all

pytestmark = pytest.mark.usefixtures("elsewhere")


def brief(epochs=1, **settings):
    return recipe("digits", **{"ratio": 60.0, "epochs": epochs} | settings)


def digits():
    return load_pool("digits", Path())


@pytest.mark.parametrize("width", [40, 50, 80, 200])
def test_the_progress_of_a_run_is_folded_between_words(width, monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    monkeypatch.setattr(progress, "err", console)
    watch, figures = progress.Watch(), "loss 1.234, accuracy 38.20 %, 1,500 images/s, 1:02:03 left"
    watch.bar.update(watch.task, description="epoch 120/200", total=9, completed=3, figures=figures)
    lines = ["".join(part.text for part in line) for line in console.render_lines(watch.bar.get_renderable())]
    assert max(map(len, lines)) <= width
    assert "epoch 120/200" in lines[0]
    assert [word for word in figures.split() if not any(word in line for line in lines)] == []


def at_epoch(key, epoch):
    return RunProgress(key, epoch, 10, 0, epoch * 5, 50, 1.5, 0.6, 0, 1500.0)


@pytest.mark.parametrize(("width", "height"), [(40, 10), (40, 24), (50, 24), (80, 24), (160, 50), (20, 3)])
def test_the_board_fits_the_terminal_and_counts_right(monkeypatch, width, height):
    screen = Console(file=io.StringIO(), force_terminal=True, width=width, height=height)
    monkeypatch.setattr(progress, "err", screen)
    table = TABLE4.with_settings(dataset="digits", epochs=1)
    requested = table.recipes()
    board = progress.Board(requested, [table, TABLE6A], [])
    for made in requested[:2]:
        board.at(at_epoch(made.key(), 5))
    (run,) = run_all([requested[2]], digits(), Path("runs"))
    with board:
        board.ended(run)
        lines = screen.render_lines(board.render(), pad=False)
    assert len(lines) < height or height < 4
    text = ["".join(part.text for part in line) for line in lines]
    assert max(map(len, text)) <= width
    first = f"1 of {len(requested)} done, 2 running, {len(requested) - 3} to go, "
    assert text[0].startswith(first if width > 50 else first[: width - 5 if width < 40 else 31])
    assert not any(re.search(r"\d…", line) for line in text)
    if height > 20:
        assert sum("—  …" in line or "— …" in line for line in text) == 1
        assert width < 80 or any(f"{100 * run.accuracy():.2f} (1)" in line for line in text)  # in the last column


def test_the_board_shows_every_running_row_and_cuts_no_name_where_there_is_room(monkeypatch):
    screen = Console(file=io.StringIO(), force_terminal=True, width=120, height=12)
    monkeypatch.setattr(progress, "err", screen)
    table = TABLE4.with_settings(dataset="digits", epochs=1).only(None, ["100"])
    board = progress.Board(table.recipes(), [table], [])
    by_row = {cell.row.title: cell.recipe.key() for cell in table.cells() if cell.recipe}
    busy = [next(iter(by_row)), list(by_row)[-1]]
    for title in busy:
        board.at(at_epoch(by_row[title], 5))
    lines = ["".join(part.text for part in line) for line in screen.render_lines(board.render(), pad=False)]
    assert len(lines) < 12
    assert [any(line.startswith("│ " + title) and "…" in line for line in lines) for title in busy] == [True, True]


def test_the_time_left_is_the_rest_of_the_work_at_the_speed_so_far(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    requested = [brief(10, seed=seed) for seed in range(4)]
    board = progress.Board(requested, [], [])
    assert board.render().renderables[0].plain.endswith(", starting")
    clock[0] = 200.0
    board.at(at_epoch(requested[0].key(), 1))
    assert "measuring the speed" in board.render().renderables[0].plain  # what starting took says nothing
    clock[0] = 230.0
    board.at(at_epoch(requested[0].key(), 6))
    assert "about 3:24 left" in board.render().renderables[0].plain  # half a run in 30 s, 3.4 to go
    for made in requested[1:]:
        board.to_do.pop(made.key())  # as if they had been there
    assert "about 0:24 left" in board.render().renderables[0].plain


def test_only_what_trains_can_have_been_trained_by_another_process(capsys):
    parent = brief()
    requested = [parent, brief(method="tau_norm", parents={"weights": parent})]
    board = progress.Board(requested, [], [])
    for run in run_all(requested, digits(), Path("runs")):
        board.ended(run)
    trained, evaluated = capsys.readouterr().err.splitlines()[-2:]
    assert trained.endswith(", by another process")
    assert evaluated.endswith(" %")
