"""Wrong commands, settings, files and variables: each is refused in three lines, and nothing is changed."""

import contextlib
import io
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path
from unittest.mock import patch

import numpy as np
from test_cli import NPZ, WRONG

from lt_repro import cli, fields
from lt_repro.errors import RequestError
from lt_repro.methods import METHODS
from lt_repro.recipe import Recipe
from lt_repro.render import figures
from lt_repro.store.run_file import sealed
from lt_repro.sweep import runner, workers

LONG, ODD = "x" * 300, "\udcff\u202e\x1b[31m\u0130"
TRAIN = ["train", "--dataset", "digits"]
TABLES = ("ablation-table", "branch-table", "crt", "plot-hparams", "plot-classes")
ABSURD = {  # of the type int, float, bool, tuple or choice: texts that are none of its values
    int: ["", "1.5", "many", "0x10", "-7", "9" * 30, "1e3", "٣x", "inf", "nan", "True"],
    float: ["", "nan", "many", "-1", "1,5", "--", "-inf", "0x1p3", "½"],
    bool: ["", "2", "maybe", "on", "TRUE!", "none"],
    tuple: ["many", "0.5;0.6", "0.8,0.6", "nan", "-1", "2", "inf", "0,0.5"],
    str: ["", "x", ODD, LONG, "0", "none "],
}


def round(count, seed, folder):
    """Returns what was not clear about `count` commands: curated ones, and drawn ones where these are too few."""
    rng = np.random.default_rng([seed, 6])
    listed = list((curated() | {"WRONG, " + name: ({}, words) for name, words in WRONG.items()}).items())
    chosen = [listed[i] for i in rng.permutation(len(listed))[:count]]
    unclear = [f"{name}: {wrong}" for name, case in chosen if (wrong := typed(*case, folder))]
    for number in range(count - len(chosen)):
        variables, words = drawn(rng)
        if wrong := typed(variables, words, folder, may_be_right=True):
            unclear.append(f"drawn {number}, {variables} {words}: {wrong}".replace(LONG, "LONG"))
    return {"commands": count, "unclear": unclear}


def typed(variables, words, folder, may_be_right=False):
    """Returns what is wrong when a command is typed beside bad files, under these variables; "" if nothing.

    What is drawn may be right, and then trains nothing: the queue ends before its first run.
    """
    workdir = folder / "here"
    if looks(workdir) != _FRESH.get(workdir):  # the command before changed something
        shutil.rmtree(workdir, ignore_errors=True)
        for name, content in bad_files().items():
            (workdir / name).parent.mkdir(parents=True, exist_ok=True)
            (workdir / name).write_bytes(content)
        _FRESH[workdir] = looks(workdir)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    before, previous = looks(workdir), Path.cwd()
    variables = {"LTREPRO_DATA": str(workdir / "data"), "COLUMNS": "200"} | variables
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(patch.dict(os.environ, variables))
        if "LTREPRO_RUNS" not in variables:
            os.environ.pop("LTREPRO_RUNS", None)
        enter(patch.object(sys, "argv", ["ltrepro", *map(str, words)]))
        enter(patch.object(urllib.request, "urlopen", _no_network))
        enter(patch.object(runner, "run_all", _no_training))
        enter(patch.object(workers, "run_jobs", _no_training))
        enter(patch.object(figures, "save", lambda *_: []))
        enter(contextlib.redirect_stdout(out))
        enter(contextlib.redirect_stderr(err))
        os.chdir(workdir)
        try:
            cli.main()
        except SystemExit as left:
            code = left.code or 0
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
        finally:
            os.chdir(previous)
    stderr, stdout = (stream.buffer.getvalue().decode() for stream in _flushed(err, out))
    # a result can be that files are bad
    if may_be_right and (code == 0 or PLANNED in stderr or (code == 1 and stdout)):
        return stderr if "Traceback" in stderr or "bug in ltrepro" in stderr else ""
    lines = [line for line in stderr.splitlines() if not line.startswith("downloading")]
    wrong = [] if code in (1, 2) else [f"exit {code}"]
    wrong += [] if 1 <= len(lines) <= 3 else [f"{len(lines)} lines"]
    wrong += [] if lines and lines[0].startswith("error: ") else ["no error is named"]
    wrong += ["a bug"] if "bug in ltrepro" in stderr or "Traceback" in stderr else []
    wrong += ["something is printed to stdout"] if stdout else []
    wrong += ["the folder was changed"] if looks(workdir) != before else []
    return f"{', '.join(wrong)}: {stderr.replace(LONG, 'LONG')[:200]}" if wrong else ""


PLANNED = "nothing is trained here"


def _no_training(recipes, *_, **__):
    raise RequestError(PLANNED)


def _no_network(*_, **__):
    raise urllib.error.URLError("there is no network here")


def _flushed(*streams):
    for stream in streams:
        stream.flush()
    return streams


def looks(folder):
    """Returns what lies below a folder, and when each was written last."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


_FILES, _FRESH = {}, {}


def bad_files():
    """Returns the content of the files that wrong commands name, by name."""
    if not _FILES:
        arrays = NPZ | {"class_names": np.array(["a", "b"])}
        unexpected = {
            "whole": {},
            "floats": {"train_images": np.zeros((6, 8, 8))},
            "flat": {"train_images": np.zeros((6, 64), np.uint8)},
            "colours": {"train_images": np.zeros((6, 8, 8, 4), np.uint8)},
            "other_size": {"test_images": np.zeros((2, 9, 9), np.uint8)},
            "tiny": {"train_images": np.zeros((6, 4, 4), np.uint8), "test_images": np.zeros((2, 4, 4), np.uint8)},
            "labels": {"train_labels": np.array([0, 1])},
            "negative": {"train_labels": np.array([-1, 0, 0, 1, 1, 1])},
            "gap": {"train_labels": np.array([0, 0, 0, 2, 2, 2])},
            "huge_label": {"train_labels": np.array([0, 0, 0, 1, 1, 1 << 40])},
            "float_labels": {"train_labels": np.array([0, 0, 0, 1, 1, 1.0])},
            "one_class": {"train_labels": np.zeros(6, int), "test_labels": np.zeros(2, int)},
            "untested": {"test_labels": np.array([0, 0])},
            "no_images": {"train_images": np.zeros((0, 8, 8), np.uint8), "train_labels": np.zeros(0, int)},
            "names": {"class_names": np.array(["a"])},
            "odd_names": {"class_names": np.array(["a", "\x1b[31m"])},
            "objects": {"train_labels": np.array([0, 0, 0, 1, 1, "x"], dtype=object)},
        }
        for name, changes in unexpected.items():
            stream = io.BytesIO()
            np.savez(stream, **arrays | changes)
            _FILES[f"{name}.npz"] = stream.getvalue()
        stream = io.BytesIO()
        np.savez(stream, x=np.zeros(3))
        good = {"schema": 1, "key": "digits-r60-x", "recipe": {}}
        _FILES.update(
            {
                "no_arrays.npz": stream.getvalue(),
                "text.npz": b"no archive",
                "empty.npz": b"",
                "cut.npz": _FILES["whole.npz"][:-300],
                "data/cifar10.npz": _FILES["whole.npz"],
                "data/cifar-100-python.tar.gz": b"half an archive",
                "bad/empty.json": b"",
                "bad/list.json": b"[1, 2]",
                "bad/nan.json": b'{"schema": NaN}',
                "bad/twice.json": b'{"schema": 1, "schema": 1}',
                "bad/bytes.json": b"\xff\xfe{}",
                "bad/number.json": b"1e999",
                "bad/schema.json": b'{"schema": true}',
                "bad/digits-r60-x.json": json.dumps(sealed(good)).encode(),
                "bad/newer.json": json.dumps(sealed(good | {"schema": 99})).encode(),
                "folders/train/a/x.png": b"no image",
                "folders/train/b/x.png": b"no image",
                "folders/test/a/x.png": b"",
                "folders/test/b/x.png": b"GIF89a",
                "lonely/train/a/x.png": b"x",
                "lonely/test/a/x.png": b"x",
                "uneven/train/a/x.png": b"x",
                "uneven/train/b/x.png": b"x",
                "uneven/test/a/x.png": b"x",
            }
        )
    return _FILES


def curated():
    """Returns wrong requests by name: variables, and what is typed."""
    made = {}

    def add(name, *words, **variables):
        made[name] = (variables, list(words))

    for owner, method in [(Recipe, "dbn_mix"), *((cls, name) for name, cls in METHODS.items())]:
        for field, kind in fields.types(owner).items():
            if field in ("dataset", "method", "parents"):
                continue
            base = getattr(kind, "__origin__", kind)
            for text in ABSURD.get(base if base in ABSURD else str, []):
                add(f"{method} {field} = {text!r:.20}", *TRAIN, "--method", method, "--set", f"{field}={text}")
    for option in ("--ratio", "--alpha", "--gamma", "--eta", "--eps", "--epochs", "--seed", "--split-seed"):
        for text in ("", "nan", "-1", "1e400x", ODD):
            add(f"train {option} {text!r}", *TRAIN, "--mix", "bilateral", "--tscale", f"{option}={text}")
    for option in ("--arch", "--mix", "--method", "--device", "--precision", "--dataset", "--set"):
        for text in ("", ODD, LONG, "none,none", "=", "dbn_mix.py"):
            add(f"train {option} {text!r:.20}", *TRAIN, f"{option}={text}")
    for name in [
        name for name in bad_files() if name.endswith(".npz") and name not in ("whole.npz", "data/cifar10.npz")
    ]:
        add(f"train {name}", "train", "--dataset", f"npz:{name}", "--epochs", "1", "--ratio", "2")
        if name != "tiny.npz":  # which only no network takes
            add(f"make-dataset {name}", "make-dataset", f"npz:{name}", "--ratio", "2")
    for place in ("folders", "lonely", "uneven", "bad", "", ".", LONG, f"/{LONG}", "~nobody/x", ODD):
        add(f"folder:{place:.20}", "make-dataset", f"folder:{place}")
        add(f"npz:{place:.20}", "make-dataset", f"npz:{place}")
    for command in TABLES:
        for words in (
            ["--ratio", "nan"], ["--ratio", "-3"], ["--ratio", "x"], ["--epochs", "-1"], ["--epochs", "1.5"],
            ["--seeds", ""], ["--seeds", "1,,2"], ["--seeds", "-1"], ["--seeds", "0-99999"], ["--seeds", "a-b"],
            ["--dataset", ""], ["--dataset", ODD], ["--dataset", "npz:text.npz"], ["--dataset", "folder:folders"],
            ["--runs", "text.npz"], ["--runs", "nowhere"], ["--runs", LONG], ["--plan", "--run"],
            ["--out", "text.npz"], ["--out", "text.npz/deep"], ["--out", LONG], ["--wrong"], ["--json", "--json=1"],
        ):  # fmt: skip
            add(f"{command} {' '.join(words):.30}", command, *words)
        add(f"{command} --run {LONG:.9}", command, "--dataset", "digits", "--ratio", "60", "--run", "--out", LONG)
        add(f"{command} LTREPRO_RUNS file", command, LTREPRO_RUNS="text.npz")
        add(f"{command} --run LTREPRO_DATA file", command, "--dataset", "cifar10", "--run", LTREPRO_DATA="text.npz")
    for words in (
        ["--rows", ""], ["--rows", "dbn,"], ["--rows", ODD], ["--columns", LONG], ["--columns", "100,,"],
        ["--profile", ""], ["--profile", "SHORT"], ["--order", ""], ["--budget", ""], ["--budget", "-1m"],
        ["--budget", "1e9"], ["--jobs", "0"], ["--jobs", "-1"], ["--jobs", "many"], ["--set", ""], ["--set", "=1"],
        ["--set", "branch_at"], ["--set", "dataset=digits"], ["--set", "epochs=0"], ["--set", "alpha=nan"],
        ["--set", "lr=0"], ["--set", f"branch_at={ODD}"], ["--seeds", "0-"], ["--ratio", "0.5"], ["--dataset", ""],
        ["--out", "text.npz"], ["--runs", "text.npz"], ["--best=1"], ["--dry-run", "--wrong"],
    ):  # fmt: skip
        add(f"reproduce {' '.join(words):.30}", "reproduce", "table4", *words)
    for command in ("reproduce", "check"):
        for name in ("", ODD, LONG, "table", "table 4", "dbn_mix:", ":table4", "TABLE40", "all,table4"):
            add(f"{command} {name!r:.20}", command, name)
        add(f"{command} nothing", command)
    for run in (
        "bad/empty.json",
        "bad/list.json",
        "bad/nan.json",
        "bad/twice.json",
        "bad/bytes.json",
        "bad/number.json",
    ):
        add(f"show {run}", "show", run)
    for run in (
        "bad/schema.json",
        "bad/newer.json",
        "bad/digits-r60-x.json",
        "bad",
        "text.npz",
        "nowhere",
        "",
        ODD,
        LONG,
    ):
        add(f"show {run:.20}", "show", run)
        add(f"plot-classes {run:.20}", "plot-classes", run)
        add(f"explain {run:.20}", "explain", run)
        add(f"diff {run:.20}", "diff", run, run)
        add(f"parent {run:.20}", "train", "--method", "crt", "--set", f"parent={run}")
    for words in (["status", "--runs", "nowhere"], ["status", "--runs", "text.npz"], ["status", "--runs", LONG]):
        add(" ".join(words)[:30], *words)
    for words in (["verify", "nowhere"], ["verify", "text.npz"], ["verify", LONG], ["verify", "x", "--x"]):
        add(" ".join(words)[:30], *words)
    for words in (["collect"], ["collect", "nowhere"], ["collect", LONG], ["collect", "bad", "--out"], ["diff", "one"]):
        add(" ".join(words)[:30], *words)
    for words in ([LONG], [ODD], [""], ["-"], ["train", "extra"], ["show"], ["show", "a", "b"], ["demo", "x"]):
        add(f"command {' '.join(words):.20}", *words)
    add("LTREPRO_DATA file", "make-dataset", "cifar10", "--no-download", LTREPRO_DATA="text.npz")
    add("LTREPRO_DATA long", "make-dataset", "cifar10", "--no-download", LTREPRO_DATA=LONG)
    add("LTREPRO_DATA nobody", "make-dataset", "cifar10", "--no-download", LTREPRO_DATA="~nobody/x")
    add("LTREPRO_DATA download", "make-dataset", "cifar10", LTREPRO_DATA="text.npz")
    add("LTREPRO_DATA other", "train", "--dataset", "cifar10")
    add("LTREPRO_DATA half", "train", "--dataset", "cifar100")
    add("LTREPRO_RUNS file", *TRAIN, "--set", "parent=x", LTREPRO_RUNS="text.npz")
    add("LTREPRO_RUNS long", "show", "x", LTREPRO_RUNS=LONG)
    add("download without a network", "make-dataset", "cifar10", "--data-root", "new")
    for path in ("text.npz/x", LONG, f"{LONG}/x", ".", "/", "/proc/x/y", "/dev/null/x"):
        add(f"make-dataset --out {path:.20}", "make-dataset", "digits", "--ratio", "60", "--out", path)
    return made


# --- drawn commands ---------------------------------------------------------------------------------------------------

WORDS = ["digits", "cifar10", "npz:whole.npz", "npz:cut.npz", "folder:folders", "dbn_mix", "bbn", "crt", "dbn", "sbn"]
WORDS += [
    "bilateral",
    "mixup",
    "none",
    "as-is",
    "cpu",
    "auto",
    "fp32",
    "bf16",
    "step",
    "exp",
    "bad",
    "runs",
    "text.npz",
]
WORDS += [
    "0",
    "1",
    "2",
    "60",
    "0.5",
    "1e-3",
    "inf",
    "nan",
    "-1",
    "1e9",
    "9" * 25,
    "",
    " ",
    ODD,
    LONG,
    "0-2",
    "0,1",
    "a,b",
]
OPTIONS = (
    "--dataset --ratio --arch --mix --tscale --alpha --gamma --eta --eps --epochs --seed --split-seed --method --set"
)
OPTIONS += " --device --precision --eval-every --out --data-root --deterministic --force --json --imb-factor"
OPTIONS += " --imb-type --profile --no-download --runs --seeds --plan --run --clean --debug --help --version --rows"
OPTIONS += " --columns --order --budget --jobs --dry-run --render-only --best --strict"
COMMANDS = ["make-dataset", "train", *TABLES, "methods", "show", "status", "verify", "collect", "diff"]
COMMANDS += ["reproduce", "check", "explain"]
FLAGS = {"--tscale", "--deterministic", "--force", "--json", "--no-download", "--plan", "--run", "--clean", "--help"}
FLAGS |= {"--dry-run", "--render-only", "--best", "--strict"}


def drawn(rng):
    """Returns drawn variables and a drawn command: mostly real words, in mostly sensible places."""

    def choice(listed):
        return listed[int(rng.integers(len(listed)))]

    def value(option):
        if option == "--set":
            owner = choice([Recipe, *METHODS.values()])
            return f"{choice(list(fields.types(owner)))}{choice(['=', '=', '=', ''])}{choice(WORDS)}"
        default = {
            "--dataset": "digits",
            "--ratio": "60",
            "--epochs": "1",
            "--seeds": "0",
            "--runs": "bad",
            "--out": "to",
            "--rows": "dbn",
            "--columns": "100",
            "--order": "row",
            "--budget": "9m",
            "--jobs": "2",
            "--profile": "smoke",
        }
        return default[option] if option in default and rng.random() < 0.7 else choice(WORDS)

    listed, options = [choice(COMMANDS) if rng.random() < 0.97 else choice(WORDS)], OPTIONS.split()
    if listed[0] in ("reproduce", "check"):
        listed += [choice(["table4", "table1", "table6", "fig3", "fig1", "groups", "reliability", "all", *WORDS])]
    for _ in range(int(rng.integers(0, 6))):
        option = choice(options)
        listed += [option] if option in FLAGS else [option, value(option)] if rng.random() < 0.97 else [choice(WORDS)]
    if listed[0] in ("show", "explain", "diff", "make-dataset", "collect", "verify") and rng.random() < 0.9:
        listed += [choice(WORDS)] * (2 if listed[0] == "diff" else 1)
    variables = (
        {choice(["LTREPRO_DATA", "LTREPRO_RUNS"]): choice([word for word in WORDS if word])}
        if rng.random() < 0.1
        else {}
    )
    return variables, [word for word in listed if word != "--debug"]
