"""Running recipes in several processes at once; locks in the folder decide who trains what."""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from lt_repro.data.images import Pool
from lt_repro.errors import LtReproError
from lt_repro.recipe import Recipe
from lt_repro.store.runs import Run
from lt_repro.sweep.progress import RunProgress, progress_of
from lt_repro.sweep.runner import Failed, records, run_all
from lt_repro.train import signals
from lt_repro.train.state import TrainState

_PAUSE = 0.2  # seconds between two looks at a run, and between two at the workers


def default_jobs(device: torch.device) -> int:
    """Returns how many runs at once suit a device: on a CPU one thread each, at most four; else one."""
    return min(4, torch.get_num_threads()) if device.type == "cpu" else 1


def run_jobs(
    recipes: Sequence[Recipe],
    pool: Pool,
    out: Path,
    *,
    jobs: int = 1,
    watch: Callable[[RunProgress], None] = lambda at: None,
    until: float = math.inf,
    **options: Any,
) -> Iterator[Run | Failed]:
    """Trains recipes in `jobs` processes, the cores divided among them, and yields each run as it ends.

    With one job it is `run_all` in this process. With several, each worker goes through all recipes as `run_all` does,
    leaves to the others what they have locked, and ends with this process. A worker that dies stops no other; the
    others resume what it trained.

    Args:
        recipes: See `run_all`.
        pool: See `run_all`.
        out: See `run_all`.
        jobs: How many at once.
        watch: Called with the progress of each run, a few times a second and when it ends.
        until: See `run_all`.
        options: Further arguments of `run_all` (`note` only reaches one job).

    Raises:
        RequestError: As `run_all`.
        FailedError: As `run_all`.
        Interrupted: As `run_all`; every worker has saved.
    """
    jobs = min(jobs, len(recipes))
    if jobs < 2:
        yield from run_all(recipes, pool, out, watch=_now_and_then(watch), until=until, **options)
        return
    options.pop("note", None)
    threads = max(1, torch.get_num_threads() // jobs)
    options |= {"until": until, "known": records(out)}
    with signals.caught(until) as stop:
        workers = dict(_start((job, jobs, threads), (recipes, pool, out), options) for job in range(jobs))
        try:
            yield from _collected(recipes, out, workers, watch, stop)
        finally:
            for process in workers.values():
                process.kill()


def _collected(
    recipes: Sequence[Recipe],
    out: Path,
    workers: dict[Connection, BaseProcess],
    watch: Callable[[RunProgress], None],
    stop: signals.Stop,
) -> Iterator[Run | Failed]:
    """Yields what the workers report, each recipe once, until all have ended."""
    pending = {recipe.key(): recipe for recipe in recipes}
    talking = list(workers)
    while pending and talking and not stop.requested:
        for line in wait(talking, timeout=_PAUSE):
            assert isinstance(line, Connection)
            try:
                message = line.recv()
            except (EOFError, OSError):  # the worker has left
                talking.remove(line)
                continue
            if isinstance(message, RunProgress):
                watch(message)
            elif isinstance(message, LtReproError):
                _stop_workers(workers)
                raise message
            else:
                key, error = message
                recipe = pending.pop(key, None)  # every worker reports every run
                if recipe:
                    yield Run.read(out / f"{key}.json") if error is None else Failed(recipe, error)
    _stop_workers(workers)
    if pending:
        stop.check(sum(process.exitcode not in (0, -signal.SIGTERM) for process in workers.values()))
    codes = ", ".join(sorted({str(process.exitcode) for process in workers.values()}))
    for recipe in pending.values():
        yield Failed(recipe, f"every worker process has died (exit codes {codes})\nrerun to resume")


def _stop_workers(workers: dict[Connection, BaseProcess]) -> None:
    """Asks the workers to save and waits until they have left."""
    for process in workers.values():
        process.terminate()
    for process in workers.values():
        process.join()


def pin(job: int, jobs: int, threads: int) -> None:
    """Keeps this process on cores of its own, where the jobs fill all cores and the system has such a call.

    Args:
        job: Its number, from 0.
        jobs: How many there are.
        threads: Threads of each.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == jobs * threads:  # fewer would be the same ones for every queue on the machine
            os.sched_setaffinity(0, cores[job * threads : (job + 1) * threads])


def _start(
    place: tuple[int, int, int], work: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Connection, BaseProcess]:
    """Returns a worker that has been started, and the line to it; `place` is what `pin` takes."""
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    our_end, worker_end = context.Pipe()
    process = context.Process(target=_work, args=(worker_end, place, work, options), daemon=True)
    resource_tracker.ensure_running()  # starting it later would undo the mask
    # only the parent handles what a terminal sends to all: it asks its workers to save
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGHUP])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    worker_end.close()
    return our_end, process


def _work(line: Connection, place: tuple[int, int, int], work: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Worker process: trains, and reports every run."""
    torch.set_num_threads(place[-1])
    pin(*place)
    threading.Thread(target=_exit_with_parent, args=(line,), daemon=True).start()
    with contextlib.suppress(signals.Interrupted, BrokenPipeError):
        try:
            for ended in run_all(*work, watch=_now_and_then(lambda at: _send(line, at)), **options):
                line.send((ended.recipe.key(), ended.error if isinstance(ended, Failed) else None))
        except LtReproError as error:
            line.send(error)


def _exit_with_parent(line: Connection) -> None:
    """Waits for the end of the process that started this one, however it ends, and then asks this one to stop."""
    with contextlib.suppress(EOFError, OSError):
        line.recv()
    os.kill(os.getpid(), signal.SIGTERM)


def _send(line: Connection, at: RunProgress) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent is gone; `_exit_with_parent` stops this process
        line.send(at)


def _now_and_then(watch: Callable[[RunProgress], None]) -> Callable[[TrainState], None]:
    """Returns a callback that passes on the progress of a run, a few times a second and when it ends."""
    last = -math.inf

    def report(state: TrainState) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= _PAUSE or state.done:
            last = now
            watch(progress_of(state))

    return report
