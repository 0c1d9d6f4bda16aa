"""What to type about an error: the rooms below state what is wrong, the command line adds how to fix it."""

import re

_HINTS = {  # by the error's class, or by its first line
    "NotThere": "`ltrepro make-dataset {error.name}` downloads it; --data-root or LTREPRO_DATA names another folder",
    "OlderSchema": "`ltrepro migrate {error.folder}` re-keys its files",
    "MissingWeights": "train that run again: --force does it in this folder, --out DIR in another",
    r"^unknown method ": "`ltrepro methods` lists them",
    r"^method \w+ without a parent": "add --set parent=RUN",
    r"^mix = 'mixup' with branches = 2": "type --arch dbn --mix bilateral, or leave --arch dbn out",
    r" leaves the last class without images": "--ratio as-is takes all images in the numbers that they have",
    r" with imb_type as_is: the images have": "type --ratio as-is, and no imb_type",
    r" set for [\w@-]+$": "choose among them with --rows and --columns",
    r"whose columns are data sets$": "choose among them with --columns, without --dataset and --ratio",
    r"^cannot write ": "name another folder with --out",
    r"^checkpoint .* has ": "choose them with --device and --data-root, or move the checkpoint away to start over",
    r" has split [0-9a-f]{8}, not ": "move it away, or train into another folder with --out",
}


def with_hint(error: Exception) -> list[str]:
    """Returns an error as at most three lines, the last with what to type where that is known."""
    lines, kind = str(error).splitlines(), type(error).__name__
    hint = next((hint for key, hint in _HINTS.items() if key == kind or re.search(key, lines[0])), None)
    return [*lines[:2], hint.format(error=error)] if hint else lines[:3]
