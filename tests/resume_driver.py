"""Trains cases of test_resume in this process: straight, cut short, or resuming. Usage: MODE OUT [NAME]."""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import torch
from conftest import EVERY
from trial import TRIAL

from lt_repro.data.images import select
from lt_repro.data.load import load_pool
from lt_repro.data.split import make_split
from lt_repro.methods import METHODS
from lt_repro.paper.dbn_mix.settings import recipe
from lt_repro.train.loop import fit
from lt_repro.train.signals import Interrupted, Stop

EPOCHS, STEPS = 3, 4
CUTS = ("killed", "mid-epoch", "last step")
SETTINGS = {"ratio": 60.0, "epochs": EPOCHS, "batch": 96}


def made(method, precision):
    settings = SETTINGS | {"precision": precision}
    branches = {} if method.name() in TRIAL else {"branches": 2}
    parents = {role: recipe("digits", **settings | branches) for role in method.parents}
    return recipe("digits", method.name(), parents=parents, **settings | dataclasses.asdict(method))


METHODS.update(TRIAL)
CASES = [  # every example of every method that trains; the ways of being cut and the precisions take turns
    (f"{label} {precision} {CUTS[number % 3]}", made(method, precision))
    for number, (label, method) in enumerate((k, m) for k, m in EVERY.items() if m.param_groups)
    for precision in (("fp32", "fp32", "fp32", "bf16")[number % 4],)  # bf16 is slow where it is emulated
]
# The probe's stage switch comes after its second epoch: its last step is right before it.
CASES += [(f"probe seed 1 fp32 {CUTS[2]}", made(TRIAL["probe"](), "fp32").replace(seed=1))]
for name in TRIAL:
    del METHODS[name]


class Killed(Exception):
    pass


def main(mode: str, out: Path, only: str = "") -> None:
    METHODS.update(TRIAL)
    torch.set_num_threads(1)
    pool = load_pool("digits", out)
    images = select(pool, make_split(pool.train_labels, ratio=60, hold_out=pool.hold_out, name="digits"))
    few = slice(None, None, 12)
    images = dataclasses.replace(images, extra={"meta": (images.train_images[few], images.train_labels[few])})
    for name, made in CASES:
        if not name.startswith(only):
            continue
        stop = Stop()
        beside = out / "parents"
        for parent in made.parents.values():
            if not (beside / f"{parent.key()}.json").exists():
                fit(parent, images, out=beside, device="cpu")

        def watch(state, name=name, stop=stop):
            if mode in ("straight", "resume") or state.epoch != 1:
                return
            if name.endswith("killed") and state.step == 2:
                if mode == "sigkill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise Killed
            at_cut = {"mid-epoch": 2, "last step": STEPS}
            if any(name.endswith(cut) and state.step == step for cut, step in at_cut.items()):
                stop.signum = signal.SIGTERM

        try:
            kwargs = {"device": "cpu", "eval_every": 1, "save_every": 0.0, "watch": watch, "stop": stop}
            fit(made, images, out=out, parents=[beside], **kwargs)
            assert mode in ("straight", "resume"), "the cut did not happen"
        except (Killed, Interrupted):
            assert mode == "cut"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
