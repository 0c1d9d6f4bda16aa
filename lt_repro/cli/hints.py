"""What to type about an error: the engine states what is wrong and of which kind, the command line how to fix it."""

from collections.abc import Collection

from lt_repro.errors import LtReproError

_HINTS = {
    "not there": "`ltrepro make-dataset {error.name}` downloads it; --data-root or LTREPRO_DATA names another folder",
    "older schema": "`ltrepro migrate {error.folder}` re-keys its files",
    "no weights": "train that run again: --force does it in this folder, --out DIR in another",
    "unknown method": "`ltrepro methods` lists them",
    "no parent": "add --set parent=RUN",
    "mixup on two branches": "type --arch dbn --mix bilateral, or leave --arch dbn out",
    "empty class": "--ratio as-is takes all images in the numbers that they have",
    "ratio of as-is": "type --ratio as-is, and no imb_type",
    "decided by rows": "choose among them with --rows and --columns",
    "decided by columns": "choose among them with --columns, without --dataset and --ratio",
    "no room": "make room and rerun: nothing that is stored is lost",
    "not writable": "make its folder writable and rerun",
    "other machine": "choose them with --device and --data-root, or move the checkpoint away to start over",
    "other split": "move it away, or train into another folder with --out",
}


def with_hint(error: LtReproError, options: Collection[str] = ()) -> list[str]:
    """Returns an error as at most three lines, the last with what to type where that is known.

    Args:
        error: What a command raised.
        options: Those that the command has.
    """
    lines = str(error).splitlines()
    if error.kind not in _HINTS:
        return lines[:3]
    hint = _HINTS[error.kind].format(error=error)
    if error.kind == "not writable" and "--out" in options:
        hint = "name another folder with --out"
    return [*lines[:2], hint]
