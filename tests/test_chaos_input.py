"""Malicious files and wrong commands: few of what `make chaos` does many of."""

from chaos import malice, wrong


def test_malicious_files_run_nothing_write_nothing_elsewhere_and_are_refused(tmp_path):
    result = malice.round(47, 0, tmp_path)
    assert result == {"files": 47, "executed": 0, "outside": 0, "refused": 47, "wrong": []}


def test_wrong_commands_are_refused_in_three_lines_and_change_nothing(tmp_path):
    assert wrong.round(120, 0, tmp_path) == {"commands": 120, "unclear": []}
