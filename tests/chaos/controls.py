"""Negative controls: with a mistake planted in the process that is attacked, each harness must report damage."""

from chaos import claiming, kills, writers

CONTROLS = {
    "a resume without momentum": lambda folder: kills.round(5, 0, folder, forgets=True)["different"] > 0,
    "a run file written in place": lambda folder: writers.round(20, 0, folder, in_place=True)["torn"] > 0,
    "a lock that looks, then writes": lambda folder: claiming.round(1, 0, folder, gullible=True)["overlaps"] > 0,
}


def round(count, seed, folder):
    """Returns how many of the controls reported damage, each once."""
    folder.mkdir(parents=True, exist_ok=True)
    missed = [name for i, (name, control) in enumerate(CONTROLS.items()) if not control(folder / f"{i}")]
    return {"controls": len(CONTROLS), "caught": len(CONTROLS) - len(missed), "missed": missed}
