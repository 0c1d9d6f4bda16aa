"""`bench`: how fast training is on this device, beside the field's usual loop and beside what the device can do."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from lt_repro.cli.app import Device, Json, app, put, put_json, say


@app.command()
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Methods to time with --methods.", show_default="all"),
    ] = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="Number format of our loop: auto, fp32 or bf16.")] = "auto",
    rounds: Annotated[
        int, typer.Option(min=1, metavar="<int>", help="Turns that each loop or method gets, 1 or more.")
    ] = 3,
    steps: Annotated[int, typer.Option(min=1, metavar="<int>", help="Training steps in a turn, 1 or more.")] = 10,
    growth: Annotated[
        bool, typer.Option("--growth", help="Also time more classes, more images, and several runs at once.")
    ] = False,
    methods: Annotated[
        bool, typer.Option("--methods", help="Time each method beside plain cross-entropy instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time our training loop, or each method, on this machine.

    [bold]ltrepro bench[/bold]

    [bold]ltrepro bench --rounds 5 --steps 30 --json[/bold]

    [bold]ltrepro bench --methods bbn crt[/bold]

    Compares with a textbook loop like that of LDAM-DRW's code (one branch) and
    BBN's (two): PIL images and torchvision's transforms in DataLoader workers,
    fp32, NCHW, the loss read at every step, a test after every epoch. Images are
    random, in the shapes of CIFAR-100-LT (100). It measures wall-clock time, so
    leave the machine idle meanwhile.

    With --methods, turns of each method alternate with turns of plain
    cross-entropy, and every figure is relative to cross-entropy.
    """
    from lt_repro.bench import growth as grows
    from lt_repro.bench import start
    from lt_repro.bench.compare import compare, random_pool
    from lt_repro.errors import RequestError

    if precision not in ("auto", "fp32", "bf16"):
        raise RequestError(f"--precision {precision}", "allowed: auto, fp32 or bf16")
    if names and not methods:
        raise RequestError(f"{names[0]} without --methods", "allowed: method names after --methods")
    if growth and methods:
        raise RequestError("--growth with --methods", "allowed: one of them")
    if methods:
        return _bench_methods(names or [], device, precision, rounds, steps, as_json)
    result = compare(device, precision, rounds, steps, say)
    result["start"] = start.measure(random_pool(), device)._asdict()
    if growth:
        say("classes, images, runs in parallel")
        result["growth"] = {
            "images_per_s_by_classes": grows.by_classes(device, steps),
            "seconds_by_images": grows.by_images(device),
            "images_per_s_by_jobs": grows.by_jobs(steps),
        }
    if as_json:
        put_json(result)
    else:
        for line in _lines(result):
            put(line)


def _bench_methods(names: Sequence[str], device: str, precision: str, rounds: int, steps: int, as_json: bool) -> None:
    """Prints what methods cost, all of them unless some are named."""
    from lt_repro.bench import costs
    from lt_repro.methods import METHODS
    from lt_repro.recipe import find
    from lt_repro.render import costs as render

    chosen = list(map(find, names)) or METHODS.values()
    result = costs.measure(chosen, device, precision, rounds, steps, say)
    if as_json:
        return put_json(result)
    put(f"{render.conditions(result)}; {rounds} rounds of {steps} steps")
    put("")
    header, *rows = render.rows(result["costs"], [cls.name() for cls in chosen])
    for cells in (header, ["---", "---", *["---:"] * (len(header) - 2)], *rows):
        put(f"| {' | '.join(cells)} |")


def _lines(result: dict[str, Any]) -> list[str]:
    """Returns the benchmark as Markdown."""
    lines = [f"{result['device']}, torch {result['torch']}, ours in {result['precision']}; {result['rounds']} rounds"]
    lines[0] += f" of {result['steps']} steps of 128 images"
    lines += [
        "",
        "| | images/s, with tests (min to max) | training alone | testing | test every |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, rate in result["contenders"].items():
        cells = [f"{rate['images_per_s']:,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})"]
        cells += [f"{rate[kind]:,.0f}" if kind in rate else "" for kind in ("train_images_per_s", "test_images_per_s")]
        cells += [f"{rate['eval_every']} epochs" if "eval_every" in rate else ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| ours / textbook | ratio |", "|---|---:|"]
    lines += [f"| {name} | {ratio:.2f} |" for name, ratio in result["ratios"].items()]
    lines += ["", "| a step of ours, ms | single | dual |", "|---|---:|---:|"]
    for part in result["step_seconds"]["single"]:
        times = [1000 * result["step_seconds"][kind][part] for kind in ("single", "dual")]
        lines.append(f"| {part} | {times[0]:.1f} | {times[1]:.1f} |")
    floor, start = result["floor"], result["start"]
    rates = ", ".join(f"{name} {1000 * rate:,.0f}" for name, rate in floor["matrix_tflop_s_by_precision"].items())
    lines += ["", f"copy {floor['copy_gb_s']:.1f} GB/s; matrices, GFLOP/s: {rates}"]
    lines.append(
        f"training alone, single, reaches {100 * floor['share']:.0f} % of the matrix rate at"
        f" {floor['gflop_per_image']:.3f} GFLOP an image"
    )
    costs = ", ".join(f"{100 * cost:.1f} % ({kind})" for kind, cost in result["loader_cost"].items())
    lines.append(f"the textbook loader costs {costs} against the same step on a batch in memory")
    lines.append(
        f"help after {start['help']:.2f} s; first training step after {start['first_step']:.1f} s;"
        f" memory above the images {start['peak_bytes'] / 1e9:.2f} GB"
    )
    for kind, launched in result.get("launches", {}).items():
        share = f"{100 * launched['host_share']:.0f} %"
        lines.append(
            f"{kind}: {launched['per_step']:,.0f} kernel launches a step; issuing them takes {share} of its time"
        )
    return lines + _growth_lines(result.get("growth", {}))


def _growth_lines(growth: dict[str, Any]) -> list[str]:
    if not growth:
        return []
    lines = ["", "| classes | training images/s |", "|---:|---:|"]
    lines += [f"| {classes:,} | {rate:,.0f} |" for classes, rate in growth["images_per_s_by_classes"].items()]
    lines += ["", "| images | set-up, s | draws of an epoch, s |", "|---:|---:|---:|"]
    lines += [f"| {n:,} | {setup:.2f} | {draw:.3f} |" for n, (setup, draw) in growth["seconds_by_images"].items()]
    lines += ["", "| network | runs x threads | images/s together |", "|---|---:|---:|"]
    for network, jobs in growth["images_per_s_by_jobs"].items():
        lines += [f"| {network} | {name} | {rate:,.0f} |" for name, rate in jobs.items()]
    return lines
