"""SIGKILL at any point and at any time: of training, of writing, of locking. `make chaos` does the same for longer."""

from chaos import claiming, kills, leaving, writers


def test_killed_training_comes_out_as_a_calm_run(tmp_path):
    found = kills.round(10, 1, tmp_path)
    assert found["kills"] >= 10
    assert found["different"] == found["left_behind"] == 0
    assert found["resumed"] >= 0.6 * found["kills"]
    assert len(found["resumed_epochs"]) >= 2


def test_killed_writers_leave_no_torn_file(tmp_path):
    assert writers.round(50, 0, tmp_path)["torn"] == 0


def test_every_run_is_done_once_though_its_owners_are_killed(tmp_path):
    found = claiming.round(1, 0, tmp_path)
    assert found["exactly_once"] == found["keys"] == 200
    assert found["overlaps"] == 0
    assert found["taken_over"] > 0


def test_a_signal_ends_training_within_five_seconds_and_a_second_ctrl_c_at_once(tmp_path):
    found = leaving.round(2, 0, tmp_path)
    assert (found["signals"], found["wrong"]) == (4, [])
    assert max(found["slowest_s"].values()) < 5
