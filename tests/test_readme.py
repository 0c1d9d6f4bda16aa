"""The commands of the README and of the pages for users run as typed, on made-up images; every link is there."""

import itertools
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from lt_repro import cli
from lt_repro.cli.app import app
from lt_repro.data import load
from lt_repro.data.images import Pool
from lt_repro.papers import papers
from lt_repro.papers.dbn_mix.settings import READINGS, SETTINGS, recipe
from lt_repro.papers.dbn_mix.tables import READINGS_DBN, READINGS_SBN, TABLE4
from lt_repro.papers.table import ratios
from lt_repro.render import text
from lt_repro.render.cells import measure
from lt_repro.render.verdicts import check
from lt_repro.store.runs import load_runs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}
RUN_HERE = ("README.md", "commands.md", "own-images.md")
"""Pages whose commands run here; test_adding_a_method.py runs those of its own page."""
HELP = "\n".join(command.help for command in get_command(app).commands.values())
EXAMPLES = re.findall(r"\[bold\](ltrepro .*?)\[/bold\]", HELP)
ELSEWHERE = {"bench": "test_bench.py", "collect": "test_cli.py", "demo": "test_cli.py", "tables": "test_tables.py"}
"""Commands that run in another test: they take minutes, or need what is not here."""
KEY = "cifar100-r100-dbn_mix-e200-s0-7e1d"
A_KEY = re.compile(r"\b[a-z][a-z0-9_]*-r[0-9.]+-[a-z0-9_]+-e[0-9]+-s[0-9]+(?:-[0-9a-f]+)?\b")
MAIN = (
    "ltrepro make-dataset cifar100 --ratio 100",
    "ltrepro train --arch dbn --mix bilateral --tscale",
    "ltrepro ablation-table",
    "ltrepro plot-hparams",
)


def commands(text):
    """The lines of a page's shell blocks that begin with ltrepro, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line[:1] == ["ltrepro"]]


def stored(key):
    """The run files that a key, or the beginning of one, may mean."""
    return list((ROOT / "tables/runs").glob(f"{key}*.json"))


def made_up_cifar(name, root):
    """100 classes of 100 training images and one test image, 8x8 pixels in colour."""
    train, test = np.repeat(np.arange(100), 100), np.arange(100)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8) for labels in (train, test)]
    return Pool(name, images[0], train, images[1], test, tuple(map(str, test)), 0, root)


def own_images():
    """A folder and a file of made-up images, as the page on own images names them."""
    rng = np.random.default_rng(0)
    for part, each in (("train", (6, 3)), ("test", (1, 1))):
        for name, count in zip(("auk", "owl"), each, strict=True):
            folder = Path("birds") / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    labels, tests = np.repeat([0, 1], 20), np.array([0, 1])
    pixels = {
        f"{part}_images": rng.integers(0, 256, (len(names), 8, 8), dtype=np.uint8)
        for part, names in (("train", labels), ("test", tests))
    }
    np.savez("flowers.npz", **pixels, train_labels=labels, test_labels=tests)


def test_the_readme_has_the_four_main_commands_and_is_short():
    assert commands(README)[:4] == [shlex.split(line) for line in MAIN]
    assert len(README.splitlines()) < 120


def test_the_readme_counts_the_points_of_the_released_code():
    points = READINGS["released"].points
    settings = sum(bool(point.sets) for point in points)
    assert f"differs from the text in {len(points)} points; {settings} of them are settings" in README


def test_the_run_that_the_readme_names_is_stored_and_is_that_of_its_second_command():
    assert recipe("cifar100", branches=2, mix="bilateral", tscale=True).key().startswith(KEY)
    assert len(stored(KEY)) == 1


def test_every_run_that_a_command_names_is_stored():
    shown = [word for text in PAGES.values() for line in commands(text) for word in line]
    shown += [line for line in HELP.splitlines() if "ltrepro " in line]
    keys = {key for word in shown for key in A_KEY.findall(word)}
    assert KEY in keys
    assert {key: len(stored(key)) for key in keys} == dict.fromkeys(keys, 1)


def test_every_target_of_make_that_a_page_names_is_there():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {name for text in PAGES.values() for name in re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)}
    assert {"demo", "test", "chaos"} <= named
    assert named <= set(targets)


@pytest.fixture
def short(monkeypatch):
    """Every data set with a small network and one epoch; the paper's tables keep no cells from before or after."""

    def forget():
        for table in itertools.chain(*(paper.tables() for paper in papers().values())):
            vars(table).pop("_cells", None)

    forget()
    for name, row in SETTINGS.datasets.items():
        monkeypatch.setitem(SETTINGS.datasets, name, row | {"net": "resnet8", "epochs": 1})
    for name, value in {"net": "resnet8", "epochs": 1}.items():
        monkeypatch.setitem(SETTINGS.others, name, value)
    yield
    forget()


def test_the_commands_run(short, monkeypatch, tmp_path, capsys):
    """Those of the pages and of the help, one after the other in one folder, beside the stored runs that they name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LTREPRO_DATA", str(tmp_path))
    real = load.load_pool
    monkeypatch.setattr(
        load, "load_pool", lambda name, root: made_up_cifar(name, root) if name == "cifar100" else real(name, root)
    )
    own_images()
    Path("tables/runs").mkdir(parents=True)
    Path("mine.csv").write_text("method,dataset,ratio,value,source,protocol\nce,cifar100,100,38.9,mine,last epoch\n")
    digits = np.load("flowers.npz")
    np.savez("bloodmnist.npz", **{name: np.repeat(digits[name], 10, axis=0) for name in digits})
    lines = [line for path, text in PAGES.items() if path.name in RUN_HERE for line in commands(text)]
    lines += [words for line in EXAMPLES if (words := shlex.split(line))[1] not in ELSEWHERE]
    for line in dict.fromkeys(map(tuple, lines)):
        words = ["--plan" if word == "--run" else word for word in line if word != "--watch"]  # it watches until Ctrl-C
        words += ["--dry-run"] if words[1] == "reproduce" and "--dry-run" not in words else []
        for key in A_KEY.findall(" ".join(words)):
            for path in stored(key):
                for part in (path, path.with_suffix(".pt")):
                    if part.exists():
                        shutil.copy(part, "tables/runs")
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code in (0, None), (line, capsys.readouterr().err)
    assert list(Path("tables").glob("*.md"))
    assert list(Path("figures").glob("*.png"))


def test_the_commands_of_the_page_on_rivals_can_be_planned(run):
    lines = commands(PAGES[ROOT / "docs/rivals.md"])
    assert lines
    for _, *words in lines:
        code, out, err = run(*words, "--dry-run")
        assert code == 0, (words, err)
        assert "ltrepro train" in out


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_of_a_page_is_there(path):
    links = re.findall(r"\]\(<?([^)>#]+)(?:#[^)]*)?>?\)", PAGES[path])
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_every_page_is_linked():
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#]+[.]md)(?:#[^)]*)?\)", PAGES.get(page, ""))
        todo += [place for link in links if (place := (page.parent / link).resolve()) not in reached]
    assert set(PAGES) - reached == set()


@pytest.fixture(scope="module")
def runs():
    return load_runs([ROOT / "tables/runs"])[0]


def test_the_readme_shows_and_judges_what_each_reading_gave(runs):
    words = " ".join(README.split())
    statuses, away = {}, {}
    for table, name in ((READINGS_DBN, "DBN-Mix"), (READINGS_SBN, "SBN-Mix")):
        measured = measure(table, runs)
        ours = {(entry.cell.row.label, entry.cell.column.label): entry for entry in measured}
        for result in check(measured):
            cell = result.measured.cell
            if cell.branch or result.status == "not run":
                continue
            place = name, cell.row.label, cell.column.title
            statuses[place], away[place] = result.status, 100 * (cell.published.value - result.measured.mean)
            if cell.row.label == "released":
                numbers = f"{100 * cell.published.value:.2f} | {ours['paper', cell.column.label].text()}"
                line = f"{name}, {cell.column.title} | {numbers} | {result.measured.text()} | {result.status}"
                assert f"| {line} |\n" in README
    text_of = {place[::2]: status for place, status in statuses.items() if place[1] == "paper"}
    assert text_of.pop(("DBN-Mix", "Many")) == "reproduced"
    assert set(text_of.values()) == {"outside"}
    assert len(text_of) == 4
    used = [run for entry in measure(READINGS_DBN, runs) for run in entry.runs]
    (origin,) = {(run.device, run.precision, run.commit[:8]) for run in used}
    assert origin[:2] == ("cuda (NVIDIA H100 80GB HBM3)", "bf16")
    assert f"on an H100 in bf16, commit {origin[2]} " in words
    above = [away["DBN-Mix", "released", group] for group in ("All", "Few", "Medium")]
    assert "paper is {:.2f} points above our mean, and {:.2f} points above it for Few".format(*above) in words
    assert f"Medium counts as reproduced although it is {above[2]:.2f} points below" in words


def test_the_readme_shows_the_measured_digits(runs):
    table = TABLE4.with_settings(ratios(60), dataset="digits")
    measured = measure(table, runs)
    for entry in measured:
        assert f"| {entry.cell.row.title} | {entry.text()} |" in README
    words = " ".join(README.replace("\n> ", " ").split())
    assert text.sentences(table, measured) in words
    (commit,) = {run.commit[:8] for entry in measured for run in entry.runs}
    assert f"commit {commit}" in words
