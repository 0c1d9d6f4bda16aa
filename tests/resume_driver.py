"""Trains cases of test_state in this process: straight, cut short, or resuming. Usage: MODE OUT."""

import dataclasses
import os
import signal
import sys
from pathlib import Path
from unittest.mock import patch

from chaos import small
from conftest import EVERY
from trial import TRIAL

from lt_repro.data.images import images_of
from lt_repro.methods import METHODS
from lt_repro.train.loop import fit
from lt_repro.train.signals import Interrupted, Stop

EPOCHS, STEPS, BATCH = 3, 2, 13  # two steps: one before a cut, one after it
CUTS = ("killed", "mid-epoch", "last step")


def made(method, precision):
    fits = {"branches": 2} if method.first_stage == "dbn_mix" else {}
    fits |= {"precision": precision, "batch": BATCH}
    parents = {role: small.made(method=method.first_stage, **fits) for role in method.parents}
    fields = {"method": method.name(), "precision": precision, "batch": BATCH} | dataclasses.asdict(method)
    if "meta_images" in method.defaults:  # as many as the images leave
        fields |= {"meta_images": 1}
    return small.made(parents=parents, **fields)


with patch.dict(METHODS, TRIAL):
    CASES = [  # every example of every method that trains; the ways of being cut and the precisions take turns
        (f"{label} {precision} {CUTS[number % 3]}", made(method, precision))
        for number, (label, method) in enumerate((k, m) for k, m in EVERY.items() if m.param_groups)
        for precision in (("fp32", "fp32", "fp32", "bf16")[number % 4],)  # bf16 is slow where it is emulated
    ]
    # The probe's stage switch comes after its second epoch: its last step is right before it.
    CASES += [(f"probe seed 1 fp32 {CUTS[2]}", made(TRIAL["probe"](), "fp32").replace(seed=1))]
    # Whole batches alone: two of 12 of the 26 images.
    CASES += [(f"dbn_mix in parts fp32 {CUTS[1]}", made(EVERY["dbn_mix 9"], "fp32").replace(bn_parts=2, batch=12))]
    # The last one, as nothing comes after it in its process.
    CASES += [("dbn_mix seed 1 fp32 SIGKILL", made(EVERY["dbn_mix 0"], "fp32").replace(seed=1))]


class Killed(Exception):
    pass


def watching(mode, name, stop):
    """Returns a callback that cuts a run of this name short, in its second epoch."""

    def watch(state):
        if mode != "cut" or state.epoch != 1:
            return
        if name.endswith("SIGKILL") and state.step == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if name.endswith("killed") and state.step == 1:
            raise Killed
        at_cut = {"mid-epoch": 1, "last step": STEPS}
        if any(name.endswith(cut) and state.step == step for cut, step in at_cut.items()):
            stop.signum = signal.SIGTERM

    return watch


def main(mode: str, out: Path) -> None:
    beside = out / "parents"
    with small.quick(), patch.dict(METHODS, TRIAL):
        for name, made in CASES:
            images = images_of(made.subset, small.pool())
            for parent in made.parents.values():
                if not (beside / f"{parent.key()}.json").exists():
                    fit(parent, images, out=beside, device="cpu")
            stop = Stop()
            kwargs = {"device": "cpu", "eval_every": 1, "save_every": 0.0, "stop": stop}
            try:
                fit(made, images, out=out, parents=[beside], watch=watching(mode, name, stop), **kwargs)
                assert mode != "cut", "the cut did not happen"
            except (Killed, Interrupted):
                assert mode == "cut"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
