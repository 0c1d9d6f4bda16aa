"""What reaches the terminal or a pipe: text as it is, nothing cut, nothing wrapped in a pipe."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lt_repro.cli import app
from lt_repro.store.runs import Run

pytestmark = pytest.mark.usefixtures("elsewhere")
STORED = sorted((Path(__file__).parents[1] / "tables/runs").glob("digits-r60-dbn_mix-e60-s*.json"))[:2]
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
        ("diff", first.path, second.path): [":dog:[red]9\\[b]"],
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
    odd, digits = "[bold]x[:fire:] :+1:", ["train", "--dataset", "digits"]
    for words in (["reproduce", odd], [*digits, "--method", odd], [*digits, "--set", f"{odd}=1"], [odd]):
        assert odd in refused(*words)


def test_train_prints_the_path_that_it_writes(run):
    shape = ["--dataset", "digits", "--ratio", "60", "--epochs", "1", "--set", "epoch_steps=1"]
    code, out, err = run("train", *shape, "--out", "exp:fire:1")
    assert code == 0, err
    assert Path(out.strip().splitlines()[-1]).is_file()


def test_what_moves_the_cursor_or_turns_text_is_a_question_mark(capsys):
    app.put("a\x1b[2Jb\u202ec\u2066d\u2028e\tf\x9bg\ud800h")
    app.say("a\x07b")
    assert capsys.readouterr() == ("a?[2Jb?c?d?e?f?g?h\n", "a?b\n")
