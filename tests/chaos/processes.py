"""Processes that are started and ended by this module, whatever happens."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def run_module(module, seconds, **arguments):
    """Returns what a module's `main` gives in a fresh process of one thread, from which forking is safe.

    Args:
        module: Its name.
        seconds: After which it and everything that it started is killed.
        arguments: Those of `main`, JSON values.
    """
    words = [sys.executable, "-W", "error", "-m", module, json.dumps(arguments)]
    options = {"env": environment(), "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(words, **options) as process:
        try:
            printed, _ = process.communicate(timeout=seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing is left of it
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise RuntimeError(f"{words} ended with {process.returncode}")
    return json.loads(printed.splitlines()[-1])


def answer(main):
    """Prints what `main` gives for the arguments that `run_module` passed."""
    sys.stdout.write(f"{json.dumps(main(**json.loads(sys.argv[1])))}\n")
    gc.freeze()  # the end of a process that has torch takes a second otherwise


def environment():
    """Returns the variables of a process of one thread that imports what this one can."""
    return os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def fork(work, *args):
    """Returns the id of a child process that does the work and ends."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        work(*args)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def ended(pid, seconds):
    """Returns how a child process ended, as `subprocess` says it, or None if it has not after so many seconds."""
    until = time.monotonic() + seconds
    while not (result := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > until:
            return None
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(result[1])


def kill(pid):
    """Returns how a child process ended, which is killed if it had not."""
    os.kill(pid, signal.SIGKILL)  # until it is waited for, the id is its own
    return ended(pid, 60)
