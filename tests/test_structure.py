"""The rooms of the package: which may import which, and that only the command line speaks of what to type."""

import ast
import re
from pathlib import Path

import pytest

import lt_repro

ROOT = Path(lt_repro.__file__).parent
PURE = {"canonical", "errors", "fields", "losses", "meta", "metrics", "mixing", "schedules"}
MAY = {  # beyond PURE, which any room may import; a dotted name is the only module of its room that may be imported
    **{name: set() for name in PURE},
    "nets": set(),
    "data": set(),
    "methods": {"nets.spec", "data.samplers"},
    "cards": {"methods"},
    "recipe": {"methods", "nets.spec"},
    "store": {"recipe"},
    "train": {"nets", "data", "methods", "store", "recipe"},
    "papers": {"recipe", "methods", "data.sets"},
    "render": {"cards", "papers", "store", "recipe", "data.samplers", "data.split"},
    "bench": {"sweep", "train", "nets", "data", "methods", "store", "recipe"},
    "sweep": {"train", "papers", "store", "recipe", "data", "nets"},
    "cli": {"bench", "cards", "sweep", "train", "render", "papers", "store", "recipe", "methods", "data"},
    "__main__": {"cli"},
}
FILES = sorted(ROOT.rglob("*.py"))


def room(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path):
    """The modules of the package that a file imports, without its name: "store.runs"."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "lt_repro":
            base = node.module.split(".")[1:]
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                is_module = (ROOT / whole.replace(".", "/")).with_suffix(".py").exists() or (
                    ROOT / whole.replace(".", "/")
                ).is_dir()
                yield whole if is_module or not base else ".".join(base)
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("lt_repro."))


def allowed(importer, name):
    target = name.partition(".")[0]
    return target == importer or target in PURE | MAY[importer] or name in MAY[importer] or name.startswith("__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    if room(path) == "__init__":
        return
    assert [name for name in imported(path) if not allowed(room(path), name)] == []


def test_every_room_is_known_and_the_check_finds_a_wrong_import(tmp_path):
    assert {room(path) for path in FILES} - {"__init__"} == set(MAY)
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from lt_repro.train.loop import fit\nfrom lt_repro import recipe\nimport lt_repro.cli\n")
    assert [name for name in imported(wrong) if not allowed("methods", name)] == ["train.loop", "recipe", "cli"]


def spoken(path):
    """The text in a file's code, docstrings and comments left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [node.body for node in ast.walk(tree) if hasattr(node, "body") and isinstance(node.body, list)]
    silent = {id(body[i].value) for body in bodies for i in range(len(body)) if isinstance(body[i], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


SPEAK = [
    ROOT / "store/provenance.py",  # git's options
    ROOT / "render/readings.py",  # a page about a command
    ROOT / "render/departures.py",  # likewise
    ROOT / "bench/start.py",  # starts the command line, to time it
]
TYPED = re.compile(r"(?<![\w-])--[a-z][a-z-]+|`ltrepro ")


def test_only_the_command_line_says_what_to_type():
    result = {path: text for path in FILES if room(path) != "cli" for text in spoken(path) if TYPED.search(text)}
    assert {str(path.relative_to(ROOT)): text for path, text in result.items() if path not in SPEAK} == {}
    assert set(result) == set(SPEAK)  # so the check finds what there is


def test_no_two_files_import_each_other():
    """Type-checking imports included: a circle of names is a circle."""
    arrows = {}
    for path in FILES:
        name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        arrows[name] = set(imported(path)) - {name}
    reach = {name: set(targets) for name, targets in arrows.items()}
    for _ in arrows:
        for targets in reach.values():
            targets |= {far for near in set(targets) for far in reach.get(near, ())}
    assert sorted(name for name, targets in reach.items() if name in targets) == []


def test_a_test_file_is_named_after_what_it_tests():
    """A module, a folder of modules, a page, or a part of the reliability run."""
    names = {part for path in FILES for part in path.relative_to(ROOT).with_suffix("").parts}
    names |= {path.stem.lower().replace("-", "_") for path in (ROOT.parent / "docs").glob("*.md")} | {"readme"}
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert {name for name in tests - names - {"structure"} if not name.startswith("chaos_")} == set()
