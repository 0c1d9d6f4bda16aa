"""What to type about an error: the rooms below state what is wrong, the command line adds how to fix it."""

import re

_HINTS = {
    r"^unknown method ": "`ltrepro methods` lists them",
    r"^method \w+ without a parent": "add --set parent=RUN",
    r"^mix = 'mixup' with branches = 2": "type --arch dbn --mix bilateral, or leave --arch dbn out",
    r" set for [\w@-]+$": "choose among them with --rows and --columns",
    r"whose columns are data sets$": "choose among them with --columns, without --dataset and --ratio",
    r"^cannot write ": "name another folder with --out",
    r"^checkpoint .* has ": "choose them with --device and --data-root, or move the checkpoint away to start over",
    r" has split [0-9a-f]{8}, not ": "move it away, or train into another folder with --out",
    r"^the weights (file )?of ": "train it again with --force, or with --out into another folder",
}


def with_hint(lines: list[str]) -> list[str]:
    """Returns the lines of an error, at most three, with what to type where that is known."""
    hint = next((hint for pattern, hint in _HINTS.items() if re.search(pattern, lines[0])), None)
    return [*lines[:2], hint] if hint else lines[:3]
