"""Re-keying run files of schema 5, whose recipes held settings without effect and called the baseline dbn_mix."""

import json
from pathlib import Path
from typing import Any

from lt_repro.recipe import Recipe
from lt_repro.store import files, run_file

BEFORE = 5


def rekeyed(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of a schema-5 run file under schema 6: recipe, keys and digest anew, all else as it is.

    Args:
        values: As `run_file.read` returns them.
    """
    recipe = Recipe.from_legacy_json(values["recipe"])
    changed = {"schema": run_file.SCHEMA, "key": recipe.key(), "recipe": recipe.to_json()}
    if values.get("weights"):
        changed["weights"] = values["weights"] | {"file": f"{recipe.key()}.pt"}
    parents = {role: recipe.parents[role].key() for role in values.get("parents", {})}
    changed["parents"] = {role: values["parents"][role] | {"key": key} for role, key in parents.items()}
    return run_file.sealed(values | changed | {"rekeyed": {"key": values["key"], "schema": BEFORE}})


def migrate(path: Path) -> Path | None:
    """Re-keys a run file and its weights in place, and returns the new path; None for a file that has a new key.

    Killed at any point, it can be rerun.

    Raises:
        DamagedError: It is not a whole run file.
        RequestError: The folder cannot be written.
    """
    try:
        run_file.read(path)
    except run_file.OlderSchema:
        content = rekeyed(run_file.read(path, BEFORE))
    else:
        return None
    new = path.with_name(f"{content['key']}.json")
    files.write(new, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    if path.with_suffix(".pt").exists():
        path.with_suffix(".pt").replace(new.with_suffix(".pt"))
    if new != path:
        path.unlink()
    return new
