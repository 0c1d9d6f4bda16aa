"""SIGKILL of training, of writing, of locking; signals that ask to leave; a full disk: `make chaos` has more of it."""

import pytest
from chaos import claiming, disk, sample


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return sample.round(tmp_path_factory.mktemp("sample"))


def test_killed_training_comes_out_as_a_calm_run(result):
    kills = result["kills"]
    assert kills["kills"] >= 10
    assert kills["different"] == kills["left_behind"] == 0
    assert kills["resumed"] >= 0.6 * kills["kills"]
    assert len(kills["resumed_epochs"]) >= 2


def test_killed_writers_leave_no_torn_file(result):
    assert (result["writers"]["kills"], result["writers"]["torn"]) == (50, 0)


def test_every_run_is_done_once_though_its_owners_are_killed(tmp_path):
    result = claiming.round(1, 0, tmp_path)
    assert result["exactly_once"] == result["keys"] == 200
    assert result["overlaps"] == 0
    assert result["taken_over"] > 0


def test_a_signal_ends_training_within_five_seconds_and_a_second_ctrl_c_at_once(result):
    leaving = result["leaving"]
    assert (leaving["signals"], leaving["wrong"]) == (4, [])
    assert max(leaving["slowest_s"].values()) < 5


def test_a_full_and_a_read_only_file_system_under_the_command_line(tmp_path):
    result = disk.real(1, 0, tmp_path)
    assert result["faults"] >= 1
    assert (result["lost"], result["unclear"]) == ([], [])
