"""The options that set fields of recipes, and `--set field=value`: the same in every command."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from lt_repro.errors import RequestError, unknown

Ratio = Annotated[
    str | None,
    typer.Option(
        help="Imbalance ratio: images of the largest class / the smallest, from 1 up; as-is uses all images.",
        show_default="100; as-is for images of your own",
    ),
]
ImbFactor = Annotated[
    float | None, typer.Option(help="1 / ratio, above 0 and up to 1, instead of --ratio: 0.01 is --ratio 100.")
]
Epochs = Annotated[
    int | None, typer.Option(help="Training epochs, 1 or more.", show_default="usually 200; 60 on digits")
]
LearningRate = Annotated[
    float | None,
    typer.Option("--lr", help="Learning rate between warm-up and the first drop.", show_default="usually 0.1"),
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", help="Images in a training batch.", show_default="usually 128")
]
WeightDecay = Annotated[
    float | None, typer.Option(help="Weight decay of SGD, from 0 to 1.", show_default="usually 2e-4")
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Number format of training: fp32, bf16, or auto, which takes bf16 where the hardware has it.",
        show_default="auto",
    ),
]
FLAGS = {
    **{name: f"--{name.replace('_', '-')}" for name in ("ratio", "epochs", "lr", "weight_decay", "seed", "split_seed")},
    **{name: f"--{name}" for name in ("precision", "alpha", "eta", "eps", "gamma")},
    "batch": "--batch-size",
}
"""Fields that `ltrepro train` has an option for, and that option; the others go by `--set`."""

CHOSEN_ELSEWHERE = ("dataset", "method", "parents")
"""Fields of a recipe that have an option of their own alone."""


def typed_ratio(ratio: str | None, imb_factor: float | None) -> str | None:
    """Returns the ratio as `--ratio` has it, where `--imb-factor` may stand in its place.

    Raises:
        RequestError: Both were typed, or the factor is not above 0 and up to 1.
    """
    if imb_factor is None:
        return ratio
    if ratio is not None or not 0 < imb_factor <= 1:
        raise RequestError(
            f"--imb-factor {imb_factor:g}" + (" and --ratio together" if ratio is not None else ""),
            "allowed: n_min / n_max, above 0 and up to 1, instead of --ratio; 0.01 is --ratio 100",
        )
    return f"{1 / imb_factor:.12g}"  # 1 / 0.01 is not quite 100


def parse_settings(assigned: Sequence[str], methods: Iterable[str], without: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the settings of `--set field=value`, by the field's name, or by "method.field" where that was typed.

    Args:
        assigned: What was typed.
        methods: Whose fields may be set. A bare name that two of them share is refused.
        without: Fields of the recipe that the command sets by other options.

    Raises:
        RequestError: A name is unknown, ambiguous or given twice, or a value is not of its field's type.
    """
    from lt_repro import fields
    from lt_repro.methods import METHODS
    from lt_repro.recipe import Recipe

    hidden = (*CHOSEN_ELSEWHERE, *without)
    owners: dict[str, list[type]] = {name: [Recipe] for name in fields.types(Recipe) if name not in hidden}
    for method in methods:
        for name in fields.types(METHODS[method]):
            owners.setdefault(name, []).append(METHODS[method])
            owners[f"{method}.{name}"] = [METHODS[method]]
    given: dict[str, Any] = {}
    for text in assigned:
        name, equals, value = text.partition("=")
        if name not in owners:
            raise unknown("setting", name, [n for n in owners if "." not in n], "type --set field=value")
        if not equals:
            raise RequestError(f"--set {text}", "allowed: --set field=value")
        if len(owners[name]) > 1:
            several = [f"{owner.__module__.rpartition('.')[2]}.{name}" for owner in owners[name]]
            raise RequestError(f"{name} is a setting of several methods", f"allowed: {', '.join(several)}")
        if name in given:
            raise RequestError(f"{name} is given twice", "allowed: each setting once")
        given[name] = fields.parse(owners[name][0], name.rpartition(".")[2], value)
    return given
