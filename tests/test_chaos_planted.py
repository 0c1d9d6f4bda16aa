"""The checks bite: each bug that is planted turns one of them red."""

from chaos import planted


def test_every_planted_bug_is_caught(tmp_path):
    found = planted.round(16, 0, tmp_path)
    assert found == {"planted": 16, "caught": 16, "missed": []}
