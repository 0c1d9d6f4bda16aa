"""Images and runs that take a moment, for whatever has to be done hundreds of times."""

import json
from contextlib import contextmanager
from functools import lru_cache, partial
from unittest.mock import patch

import numpy as np
import torch

from lt_repro.data.images import Pool, select
from lt_repro.data.split import make_split
from lt_repro.papers.dbn_mix.settings import recipe
from lt_repro.store import provenance
from lt_repro.sweep import runner
from lt_repro.train.loop import fit, train_step
from lt_repro.train.state import TrainState

VOLATILE = {"seconds", "images_per_second", "attempts", "command", "payload_sha256"}


@lru_cache
def pool():
    rng = np.random.default_rng(0)

    def part(each):
        labels = np.repeat(np.arange(4), each)
        return (rng.integers(0, 60, (len(labels), 8, 8, 1)) + 60 * labels[:, None, None, None]).astype(np.uint8), labels

    return Pool("made_up", *part(12), *part(5), ("a", "b", "c", "d"), 0, None)


@lru_cache
def images():
    return select(pool(), make_split(pool().train_labels, ratio=4, name="made_up"))


def made(**settings):
    default = {"ratio": 4.0, "net": "resnet8", "epochs": 3, "batch": 8, "crop": 1, "precision": "fp32"}
    return recipe("made_up", **default | settings)


@contextmanager
def quick(**options):
    """One thread, no git, and other arguments of the loop than `run_all` passes."""
    torch.set_num_threads(1)
    default = {"save_every": 0.0} | options
    with patch.object(provenance, "commit", str), patch.object(runner, "fit", partial(fit, **default)):
        yield


def lane(folder, recipe, epochs=(1, 2)):
    """Returns a run that has left a checkpoint after each of these epochs."""
    state = TrainState(recipe, images(), folder, torch.device("cpu"))
    for requested in epochs:
        while state.epoch < requested:
            state.start_epoch()
            while state.step < state.steps:
                train_step(state)
            state.finish_epoch(10)
        state.save()
    return state


def content(path):
    """Returns what a run file says of the run and not of the machine."""
    return {name: value for name, value in json.loads(path.read_text()).items() if name not in VOLATILE}
