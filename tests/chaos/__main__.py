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
    args = parser.parse_args()
    print(f"seed {args.seed}, lt_repro {lt_repro.__version__}", file=sys.stderr)
    results = {}
    for name in args.names or COUNTS:
        count, start = max(1, round(COUNTS[name] * args.share)), time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            results[name] = importlib.import_module(f"chaos.{name}").round(count, args.seed, Path(folder) / name)
        results[name]["wall_s"] = round(time.monotonic() - start, 1)
        print(f"{name}: {json.dumps(results[name])}", file=sys.stderr)
    first = {"seed": args.seed}
    for key, name in {"kills": "kills", "resumed_epochs": "kills", "torn": "writers", "different": "kills"}.items():
        first |= {key: results[name][key]} if name in results else {}
    for key in ("damaged", "detected"):
        first |= {key: results["damage"][key]} if "damage" in results else {}
    print(json.dumps(first | {"rounds": results}, indent=1))


if __name__ == "__main__":
    main()
