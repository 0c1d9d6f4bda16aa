"""What reaches the terminal or a pipe: text as it is, nothing cut, nothing wrapped in a pipe."""

import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from lt_repro.cli import app
from lt_repro.render import figures
from lt_repro.store.runs import Run

pytestmark = pytest.mark.usefixtures("elsewhere")
ALL_STORED = sorted((Path(__file__).parents[1] / "tables/runs").glob("digits-r60-dbn_mix-e60-s*.json"))
STORED = ALL_STORED[:2]
FEW = [path for path in ALL_STORED[0].parent.glob("digits-r60-*") if re.search("dbn_mix-e60-|-bbn-|-crt-", path.name)]
ODD = "[bold]x[:fire:]\\[b] :+1: \u3000\u200d猫"


def stored(folder, names=None, **changes):
    """Two stored runs of the digits, brought into a folder, with other class names and other fields."""
    runs = [Run.read(path) for path in STORED]
    split = {} if names is None else {"split": runs[0].split | {"class_names": names}}
    return [replace(run, **changes | split).publish(Path(folder)) for run in runs]


# text as it is


def test_names_and_paths_are_printed_as_they_are(run):
    folder, names = f"exp:fire:1/{ODD}", [f":dog:[red]{k}\\[b]" for k in range(10)]
    first, second = stored(folder, names, device=f"cpu {ODD}")
    for words, shown in {
        ("status", "--runs", folder): [f"in {folder}"],
        ("verify", folder): ["2 files, 0 bad"],
        ("show", first.path): [f"cpu {ODD}", str(first.path)],
        ("diff", first.path, second.path): [":dog:[red]8\\[b]"],
        ("plot-classes", first.path, second.path, "--out", folder): [*names, f"{folder}/classes-"],
        ("collect", folder, "--out", f"{folder}/to"): [f"2 copied to {folder}/to"],
    }.items():
        code, out, err = run(*words)
        assert code == 0, err
        assert [text for text in shown if text not in out] == [], out
    Path(f"{folder}/{first.recipe.key()}.json").write_text("{")
    assert f"{first.path} is damaged" in run("show", first.path)[2]
    assert f"{first.path}: " in run("verify", folder)[1]
    assert f"{first.path} is damaged" in run("ablation-table", "--dataset", "digits", "--runs", folder)[2]


def test_class_names_of_a_data_set_and_its_path_are_printed_as_they_are(run):
    names = np.array([":dog:", "[b]bee[/b]", "\\[c]"])
    labels = np.repeat(np.arange(3), 4)
    images = np.zeros((12, 8, 8, 3), np.uint8)
    arrays = {f"{part}_images": images for part in ("train", "test")}
    arrays |= {f"{part}_labels": labels for part in ("train", "test")}
    np.savez(":cat:.npz", **arrays, class_names=names)
    code, out, err = run("make-dataset", "npz::cat:.npz", "--ratio", "1", "--out", ":fire:/[b].json")
    assert code == 0, err
    assert [name for name in [*names, ":fire:/[b].json"] if name not in out] == []
    assert ":dog:.npz" in run("make-dataset", "npz::dog:.npz")[2]


def test_a_wrong_request_is_repeated_as_it_was_typed(refused):
    unexpected, digits = "[bold]x[:fire:] :+1:", ["train", "--dataset", "digits"]
    for words in (
        ["reproduce", unexpected],
        [*digits, "--method", unexpected],
        [*digits, "--set", f"{unexpected}=1"],
        [unexpected],
    ):
        assert unexpected in refused(*words)


def test_train_prints_the_path_that_it_writes(run):
    shape = ["--dataset", "digits", "--ratio", "60", "--epochs", "1", "--set", "epoch_steps=1"]
    code, out, err = run("train", *shape, "--out", "exp:fire:1")
    assert code == 0, err
    assert Path(out.strip().splitlines()[-1]).is_file()


def test_what_moves_the_cursor_or_turns_text_is_a_question_mark(capsys):
    app.put("a\x1b[2Jb\u202ec\u2066d\u2028e\tf\x9bg\ud800h")
    app.say("a\x07b")
    assert capsys.readouterr() == ("a?[2Jb?c?d?e?f?g?h\n", "a?b\n")


# nothing cut


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def screen(run, monkeypatch):
    """Types a command on a terminal of some columns and gives what it shows, without colours."""

    def type_in(width, *words, term="xterm"):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", shown := Terminal())
            patch.setattr(app.out, "_width", width)  # read from COLUMNS when the process starts
            patch.setenv("TERM", term)
            code, _, err = run(*words)
        assert code == 0, err
        return re.sub(r"\x1b\[[\d;]*m", "", shown.getvalue())

    return type_in


ON_DIGITS = ["--dataset", "digits", "--ratio", "60", "--runs", "few"]
COMMANDS = {
    "ablation": ["ablation-table", *ON_DIGITS],
    "branch": ["branch-table", *ON_DIGITS],
    "reproduce": ["reproduce", "table6", "--render-only", *ON_DIGITS],
    "classes": ["plot-classes", *STORED],
    "fig1": ["plot-classes", *ON_DIGITS],
    "diff": ["diff", *STORED],
    "show": ["show", STORED[0]],
    "status": ["status", "--runs", ALL_STORED[0].parent],
    "methods": ["methods"],
    "method": ["methods", "dbn_mix"],
    "make-dataset": ["make-dataset", "digits"],
}
NUMBER = r"[+−-]?\d+\.\d\d(?: ± \d+\.\d\d)?(?: \(\d+\))?(?=[ │])"  # of a cell: "51.04 ± 0.33 (3)"


def grids(text):
    """The lines of the grids that have lines between the cells."""
    return [line for line in text.splitlines() if line[:1] in "┏┃┡│└"]


@pytest.fixture
def few():
    """A folder of stored runs that fill these tables, and no others, which would only have to be read."""
    Path("few").mkdir()
    for path in FEW:
        (Path("few") / path.name).write_bytes(path.read_bytes())


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_no_number_is_cut_and_no_grid_is_wider_than_the_terminal(words, run, screen, monkeypatch, few):
    monkeypatch.setattr(figures, "class_figure", lambda *_: None)  # what is printed does not depend on the picture
    monkeypatch.setattr(figures, "save", lambda *_: [])
    whole = screen(100_000, *words)
    for width in (40, 50, 80, 200):
        shown = screen(width, *words)
        assert "…" not in shown
        assert [line for line in grids(shown) if cell_len(line) > width] == []
        cells = [set(re.findall(NUMBER, "\n".join(grids(text)))) for text in (whole, shown)]
        assert cells[0] == cells[1]
    monkeypatch.setenv("COLUMNS", "40")
    piped = run(*words)[1]
    assert piped == whole
    assert screen(40, *words, term="dumb") == piped
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(*words)[1] == piped


def test_two_runs_are_never_shown_under_the_same_name(run, screen, monkeypatch):
    keys = [f"{'cifar100-r100-' * 4}dbn_mix-e200-s{seed}-0123456{seed}" for seed in (0, 1)]
    for key in keys:
        Path("runs").mkdir(exist_ok=True)
        Path(f"runs/{key}.failed.json").write_text("{}")
    for width in (40, 50, 80):
        lines = screen(width, "status").splitlines()
        assert max(map(len, lines)) <= width
        begin = lines[0].index("state")
        assert "".join(line[:begin].strip() for line in lines[1:-1]) == "".join(keys)
    monkeypatch.setenv("COLUMNS", "40")
    out = run("status")[1]
    assert [line.split()[:2] for line in out.splitlines()[1:3]] == [[key, "failed"] for key in keys]


def test_digests_are_whole(run, screen, monkeypatch):
    digest = Run.read(STORED[0]).weights["sha256"]
    for width in (40, 50, 80):
        assert digest in "".join(screen(width, "show", STORED[0]).split())
    monkeypatch.setenv("COLUMNS", "40")
    assert digest in run("show", STORED[0])[1]


def test_a_long_class_name_ends_in_an_ellipsis_on_a_terminal_alone(run, screen):
    names = ["a class of a very long name", "猫" * 12]
    labels, images = np.repeat(np.arange(2), 4), np.zeros((8, 8, 8, 3), np.uint8)
    arrays = {f"{part}_images": images for part in ("train", "test")}
    np.savez("a.npz", **arrays, train_labels=labels, test_labels=labels, class_names=names)
    words = ["make-dataset", "npz:a.npz", "--ratio", "1"]
    for width in (40, 50, 80):
        lines = screen(width, *words).splitlines()[:2]
        assert [cell_len(line) <= width for line in lines] == [True, True]
        assert lines[0].startswith("a class of a ve…  4  █")
        assert "猫猫 …" in lines[1]
    assert all(name in run(*words)[1] for name in names)


def test_a_long_title_of_a_series_is_broken_between_words(screen):
    frozen = next(p for p in ALL_STORED if "-dbn_mix-" in p.name and '"frozen": true' in p.read_text())
    plain = next(p for p in ALL_STORED if "digits-r60-dbn_mix-" in p.name and '"frozen": true' not in p.read_text())
    words = ["plot-classes", frozen, plain]
    for width in (40, 80):
        lines = screen(width, *words).splitlines()
        titles = " ".join(" ".join(line.replace("┃", " ").split()) for line in lines if line.startswith("┃"))
        assert {"frozen", "cross_entropy,", "mixup)", "true,"} <= set(titles.split())


def test_a_grid_is_folded_on_a_terminal_too_narrow_for_a_number(screen, few):
    for width in (20, 30):
        shown = screen(width, *COMMANDS["branch"])
        assert [line for line in grids(shown) if cell_len(line) > width] == []
