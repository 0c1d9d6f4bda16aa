"""Damaged files, a disk that fails, values that are not finite: few of what `make chaos` does many of."""

from chaos import damage, disk, finite


def test_every_damaged_file_is_found_out(tmp_path):
    result = damage.round(60, 0, tmp_path)
    assert result == {"damaged": 60, "detected": 60, "undetected": []}


def test_a_disk_that_fails_at_any_call_loses_nothing_and_is_named(tmp_path):
    result = disk.round(1, 0, tmp_path)
    assert result["points"] == result["faults"] > 60
    assert (result["lost"], result["unclear"]) == ([], [])


def test_a_value_that_is_not_finite_ends_the_run_as_diverged(tmp_path):
    result = finite.round(18, 0, tmp_path)
    assert result == {"injected": 18, "diverged": 18, "in_a_mean": 0, "wrong": []}
