"""Trains cases of test_resume in this process: straight, cut short, or going on. Usage: MODE OUT [NAME]."""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import torch
from conftest import EVERY, ROWS
from probe import Probe

from lt_repro.data.pools import load_pool, select
from lt_repro.data.split import make_split
from lt_repro.methods import METHODS
from lt_repro.paper.dbn_mix.settings import recipe
from lt_repro.train.loop import fit
from lt_repro.train.signals import Interrupted, Stop

EPOCHS, STEPS = 3, 4
CUTS = ("killed", "mid-epoch", "last step")
SETTINGS = {"ratio": 60.0, "epochs": EPOCHS, "batch": 96}
OTHERS = ("frozen dbn+bm+ts", "bbn", "crt", "crt, bn train", "crt, cached", "probe")


def made(label, precision):
    method = EVERY[label.removesuffix(", cached")]
    if label == "probe":  # it is no method of the package, and has no settings in the paper
        return dataclasses.replace(recipe("digits", precision=precision, **SETTINGS), method=method)
    settings = SETTINGS | dataclasses.asdict(method) | {"precision": precision}
    if method.parents:
        settings |= {
            "parents": {"features": recipe("digits", branches=2, precision=precision, **SETTINGS)},
            "ratio": 60.0,
        }
    if label == "crt, cached":
        settings |= {"crop": 0}
    return recipe("digits", method.name(), **settings)


CASES = [  # every row and every other method in both precisions; the three ways of being cut take turns
    (f"{label} {precision} {CUTS[(row + half) % 3]}", made(label, precision))
    for row, label in enumerate((*ROWS, *OTHERS))
    for half, precision in enumerate(("fp32", "bf16"))
]
# The probe's stage switch comes after its second epoch: its last step is right before it.
CASES += [(f"probe seed 1 fp32 {cut}", made("probe", "fp32").replace(seed=1)) for cut in CUTS[2:]]


class Killed(Exception):
    pass


def main(mode: str, out: Path, only: str = "") -> None:
    METHODS["probe"] = Probe
    torch.set_num_threads(2)
    pool = load_pool("digits", out)
    images = select(pool, make_split(pool.train_labels, ratio=60, hold_out=pool.hold_out, name="digits"))
    for name, made in CASES:
        if not name.startswith(only):
            continue
        stop = Stop()
        beside = out / "parents"
        for parent in made.parents.values():
            if not (beside / f"{parent.key()}.json").exists():
                fit([parent], images, out=beside, device="cpu")

        def watch(lane, name=name, stop=stop):
            if mode in ("straight", "go") or lane.epoch != 1:
                return
            if name.endswith("killed") and lane.step == 2:
                if mode == "sigkill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise Killed
            if (name.endswith("mid-epoch") and lane.step == 2) or (name.endswith("last step") and lane.step == STEPS):
                stop.signum = signal.SIGTERM

        try:
            told = {"device": "cpu", "eval_every": 1, "save_every": 0.0, "watch": watch, "stop": stop}
            fit([made], images, out=out, parents=[beside], **told)
            assert mode in ("straight", "go"), "the cut did not happen"
        except (Killed, Interrupted):
            assert mode == "cut"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
