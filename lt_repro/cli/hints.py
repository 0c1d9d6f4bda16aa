"""What to type about an error: the engine states what is wrong and of which kind, the command line how to fix it."""

from collections.abc import Collection

from lt_repro.errors import Kind, LtReproError

_HINTS: dict[Kind, str] = {
    "not there": "`ltrepro make-dataset {error.name}` downloads it; --data-root or LTREPRO_DATA names another folder",
    "older schema": "`ltrepro migrate {error.folder}` re-keys its files",
    "no weights": "train that run again: --force does it in this folder, --out DIR in another",
    "unknown method": "`ltrepro methods` lists them",
    "no parent": "add --set parent=RUN",
    "mixup on two branches": "type --arch dbn --mix bilateral, or leave --arch dbn out",
    "empty class": "--ratio as-is uses every image",
    "ratio of as-is": "type --ratio as-is, and no imb_type",
    "decided by rows": "choose among them with --rows and --columns",
    "decided by columns": "choose among them with --columns, without --dataset and --ratio",
    "other machine": "choose them with --device and --data-root, or move the checkpoint away to start over",
    "other split": "move it away, or train into another folder with {option}",
    "no room": "make room and rerun: what is saved is kept",
    "not writable": "name another folder with {option}",
    "runs not writable": "name another folder with {option}",
}
_WRITES = (("--out",), ("--save-logits", "--confusion"))
_TRAINS = (("--runs",), ("--out",))
_OPTIONS = {"not writable": _WRITES, "runs not writable": _TRAINS, "other split": _TRAINS}
"""Which options name the folder: the first that the command has."""


def with_hint(error: LtReproError, options: Collection[str] = ()) -> list[str]:
    """Returns an error as at most three lines, the last with what to type where that is known.

    Args:
        error: What a command raised.
        options: Those that the command has.
    """
    lines = str(error).splitlines()
    if error.kind not in _HINTS:
        return lines[:3]
    named = next((each for each in _OPTIONS.get(error.kind, ()) if set(each) <= set(options)), ())
    if error.kind in _OPTIONS and not named:
        return [*lines[:2], "make its folder writable and rerun"]
    return [*lines[:2], _HINTS[error.kind].format(error=error, option=" or ".join(named))]
