"""The long reliability run behind `make chaos`: prints its seed, then one JSON document with what came of it.

`python -m chaos [--seed N] [--share S] [NAME...]`, where S is the share of the long counts (1 by default).
"""

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path

import lt_repro

COUNTS = {
    "kills": 200,
    "writers": 1000,
    "claiming": 5,
    "leaving": 30,
    "damage": 1000,
    "disk": 100,
    "finite": 36,
    "malice": 60,
    "wrong": 5000,
    "planted": 12,
    "controls": 1,
}


def main():
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *COUNTS], help="which; all of them by default")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--share", type=float, default=1.0)
    asked = parser.parse_args()
    print(f"seed {asked.seed}, lt_repro {lt_repro.__version__}", file=sys.stderr)
    told = {}
    for name in asked.names or COUNTS:
        count, begun = max(1, round(COUNTS[name] * asked.share)), time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            told[name] = importlib.import_module(f"chaos.{name}").round(count, asked.seed, Path(folder) / name)
        told[name]["wall_s"] = round(time.monotonic() - begun, 1)
        print(f"{name}: {json.dumps(told[name])}", file=sys.stderr)
    first = {"seed": asked.seed}
    for key, name in {"kills": "kills", "resumed_epochs": "kills", "torn": "writers", "different": "kills"}.items():
        first |= {key: told[name][key]} if name in told else {}
    for key in ("damaged", "detected"):
        first |= {key: told["damage"][key]} if "damage" in told else {}
    print(json.dumps(first | {"rounds": told}, indent=1))


if __name__ == "__main__":
    main()
