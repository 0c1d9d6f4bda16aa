"""`ltrepro tables`, and what is committed: every run file is whole, every other file is what the runs render."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from lt_repro.errors import FailedError
from lt_repro.papers.dbn_mix.tables import GROUPS
from lt_repro.render import figures
from lt_repro.store.runs import Run

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "tables/runs").glob("*.json"))


def tracked():
    """The committed files of tables/ and figures/ that are rendered, but for those that were just deleted."""
    words = ["git", "ls-files", "-z", "tables", "figures", ":!tables/runs", ":!tables/rendered.json"]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    return {name for name in names if (ROOT / name).exists()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_run_file_rehashes_to_its_name(path):
    run = Run.read(path)
    assert path.stem == run.recipe.key() == json.loads(path.read_text())["key"]
    assert run.commit is not None
    assert not run.commit.endswith("+"), "a published number comes from a commit"
    assert not re.search(r"(^|[\s=:])/", run.command), "a folder of one machine tells others nothing"


def test_what_is_committed_is_what_the_command_renders(run, monkeypatch, tmp_path):
    """Pictures are not drawn again: another version of matplotlib draws other pixels."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(figures, "save", lambda _, stem, foot: [Path(f"{stem}.png"), Path(f"{stem}.svg")])
    code, out, err = run("tables", "--out", tmp_path)
    assert (code, err) == (0, "")  # no run is damaged, none is of another split
    rendered = {str(path.relative_to(tmp_path)): path for path in map(Path, out.splitlines())}
    texts = {name: path.read_bytes() for name, path in rendered.items() if path.suffix not in (".png", ".svg")}
    stale = [name for name, text in texts.items() if not (ROOT / name).exists() or (ROOT / name).read_bytes() != text]
    assert stale == [], "make tables"
    assert tracked() - rendered.keys() == set(), "make tables"
    pictures = [ROOT / name for name in rendered if name.endswith(".png")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


@pytest.fixture
def checkout(elsewhere):
    """A folder with one stored run and a list of exhibits, of which the run is in two."""
    path = Path("tables/runs", f"{GROUPS.with_settings(dataset='digits', ratio=60.0).recipes()[0].key()}.json")
    path.parent.mkdir(parents=True)
    path.write_bytes((ROOT / path).read_bytes())
    entry = {"exhibits": "table4 table6 groups", "dataset": "digits", "ratio": "60"}
    Path("tables/rendered.json").write_text(json.dumps([{"exhibits": "fig3"}, entry]))


def test_exhibits_without_a_run_are_not_written(run, checkout):
    code, out, err = run("tables")
    assert (code, err) == (0, "")
    names = {"tables/table4-digits-r60": ("md", "csv", "json"), "figures/groups-digits-r60": ("csv", "png", "svg")}
    names |= {"docs/two-readings": ("md",), "docs/departures": ("md",)}
    expected = {f"{stem}.{kind}" for stem, kinds in names.items() for kind in kinds}
    assert set(out.splitlines()) == expected
    assert all(Path(name).stat().st_size for name in expected)
    before = {name: Path(name).read_bytes() for name in expected}
    assert run("tables")[:2] == (code, out)
    assert {name: Path(name).read_bytes() for name in expected} == before


def test_the_overviews_of_the_page_on_what_is_measured_are_made_again(run, checkout):
    Path("docs").mkdir()
    Path("docs/status.md").write_text("a\n\n| exhibit | x |\n| --- |\n| old |\n\nb\n\n| exhibit | x |\n| --- |\n\nc\n")
    assert run("tables")[0] == 0
    first, second = Path("docs/status.md").read_text().split("\n\nb\n\n")
    assert first.startswith("a\n\n| exhibit | what it shows |")
    assert [line.split(" | ")[0] for line in first.splitlines()[4:]] == ["| fig3a", "| fig3b", "| fig3c"]
    assert "[table4-digits-r60](../tables/table4-digits-r60.md)" in second
    assert "| table6a-digits-r60 |" in second
    assert second.endswith("|\n\nc\n")


def test_what_cannot_be_drawn_or_read_is_named_and_the_rest_is_written(run, checkout, monkeypatch):
    def broken(*_):
        raise FailedError("no font")

    monkeypatch.setattr(figures, "group_figure", broken)
    Path("tables/runs/broken.json").write_text("{")
    code, _, err = run("tables")
    assert code == 1
    assert "groups-digits-r60: no font" in err
    assert "broken.json" in err
    assert Path("figures/groups-digits-r60.csv").exists()
    assert "broken.json" in Path("tables/table4-digits-r60.md").read_text()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (None, "rendered.json"),
        ("[", "rendered.json"),
        ('["all"]', "mapping"),
        ('[{"exhibit": "table4"}]', "'exhibit'"),
        ('[{"exhibits": "table4", "ratio": 60}]', "'int'"),
        ('[{"exhibits": "tabel4"}]', "did you mean 'table4'?"),
        ('[{"exhibits": "table4", "seeds": "two"}]', "--seeds two"),
    ],
)
def test_a_wrong_list_is_refused(refused, checkout, text, word):
    Path("tables/rendered.json").unlink()
    if text is not None:
        Path("tables/rendered.json").write_text(text)
    assert word in refused("tables")
    assert not Path("docs").exists()


def test_without_stored_runs_it_is_refused(refused):
    assert "no folder tables/runs" in refused("tables")
