"""What to type about an error: every kind has advice, and the advice fits the command."""

import errno
from pathlib import Path
from typing import get_args

import pytest

from lt_repro.cli import app, hints
from lt_repro.errors import Kind, RequestError
from lt_repro.store import files

PERMISSION = "make its folder writable and rerun"


def test_every_kind_of_error_has_advice_and_no_message_decides_it():
    assert {*hints._HINTS, ""} == set(get_args(Kind))
    error = RequestError("cannot write x: unknown method y set for table4", "allowed: z", "fix it")
    assert hints.with_hint(error, ["--out"]) == str(error).splitlines()


@pytest.mark.parametrize(
    ("command", "of_files", "of_runs"),
    [
        ("train", "--out", "--out"),
        ("demo", "--out", "--out"),
        ("reproduce", "--out", "--runs"),
        ("ablation-table", "--out", "--runs"),
        ("make-dataset", "--out", None),
        ("collect", "--out", None),
        ("tables", "--out", None),
        ("evaluate", "--save-logits or --confusion", None),
        ("verify", "", ""),
        ("migrate", "", ""),
        ("bench", "", ""),
    ],
)
def test_the_advice_on_a_folder_names_an_option_that_the_command_has(command, of_files, of_runs):
    for kind, option in (("not writable", of_files), ("runs not writable", of_runs)):
        if option is not None:
            error = files.cannot_write(Path("x"), PermissionError(errno.EACCES, "Permission denied"), kind)
            lines, code = app._as_lines(error, command)
            assert lines[0] == "cannot write x: Permission denied"
            assert (lines[2], code) == (f"name another folder with {option}" if option else PERMISSION, 2)


def test_the_folder_of_runs_is_told_from_the_folder_of_tables(run):
    Path("text").write_text("")
    words = ["reproduce", "table4", "--dataset", "digits", "--ratio", "60", "--rows", "sbn", "--seeds", "0"]
    for option in ("--runs", "--out"):
        code, _, err = run(*words, "--jobs", "1", option, "text/folder")
        assert (code, err.splitlines()[-1]) == (2, f"  name another folder with {option}")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_asks_for_room_before_training_and_elsewhere(refused, monkeypatch, number):
    def full(_):
        raise OSError(number, "no space")

    monkeypatch.setattr("os.fsync", full)
    for words in (["make-dataset", "digits"], ["train", "--dataset", "digits"]):
        assert "  make room and rerun: what is saved is kept\n" in refused(*words)
