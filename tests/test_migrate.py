"""Run files of schema 5 are re-keyed once: same content, new keys; every stored file says from which key."""

import copy
import json
from pathlib import Path

import pytest

from lt_repro.canonical import digest
from lt_repro.errors import DamagedError
from lt_repro.recipe import Recipe
from lt_repro.store import run_file
from lt_repro.store.migrate import migrate, rekeyed
from lt_repro.store.runs import Run

STORED = sorted((Path(__file__).parents[1] / "tables/runs").glob("*.json"))
FULL = {  # what schema 5 wrote for every recipe, whether it decided something or not
    "cross_entropy": {"alpha": 1.0, "gamma": "inf", "eta": 3.0, "eps": 0.6, "branch_at": "block", "bn": "per_branch"}
    | {"lam_per": "batch", "head": "linear", "branches": 1, "tscale": False},
}


def as_before(values):
    """A stored baseline run as schema 5 had it."""
    old = copy.deepcopy(values)
    recipe = old["recipe"]
    recipe["method"] = {"name": "dbn_mix"} | FULL["cross_entropy"] | {"mix": recipe["method"]["mix"]}
    recipe |= {"precision": recipe.get("precision", "auto")}
    old |= {"schema": 5, "recipe": recipe}
    del old["rekeyed"]
    slug = values["key"].replace("cross_entropy", "dbn_mix").rpartition("-")[0]
    old["key"] = f"{slug}-{digest(recipe)[:8]}"
    old["weights"] = old["weights"] | {"file": f"{old['key']}.pt"}
    return old


@pytest.fixture
def older(tmp_path):
    """A file of schema 5 with weights beside it, and the stored file that it became."""
    new = next(path for path in STORED if "digits-r60-cross_entropy-e60-s0" in path.name)
    values = run_file.read(new)
    old = as_before(values)
    path = tmp_path / f"{old['key']}.json"
    path.write_text(json.dumps(run_file.sealed(old), indent=1) + "\n")
    path.with_suffix(".pt").write_bytes(b"weights")
    return path, values


def test_a_re_keyed_file_is_the_stored_one_byte_for_byte(older):
    path, values = older
    assert rekeyed(run_file.read(path, 5)) == run_file.sealed(values)
    new = migrate(path)
    assert new.read_bytes() == next(p for p in STORED if p.name == new.name).read_bytes()
    assert new.with_suffix(".pt").read_bytes() == b"weights"
    assert not path.exists()
    assert not path.with_suffix(".pt").exists()
    assert values["rekeyed"] == {"key": path.stem, "schema": 5}
    assert migrate(new) is None


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_every_stored_file_has_the_key_that_its_recipe_gives(path):
    values = run_file.read(path)
    recipe = Recipe.from_json(values["recipe"])
    assert recipe.to_json() == values["recipe"]
    assert (recipe.key(), values["key"]) == (path.stem, path.stem)
    assert {role: start["key"] for role, start in values["parents"].items()} == {
        role: parent.key() for role, parent in recipe.parents.items()
    }
    if values.get("weights"):
        assert values["weights"]["file"] == f"{path.stem}.pt"


def test_one_killed_half_way_is_finished_by_the_next(older):
    path, _ = older
    kept = path.read_bytes()
    new = migrate(path)
    path.write_bytes(kept)  # as if it had been killed before the old file was removed
    assert migrate(path) == new
    assert not path.exists()
    assert new.with_suffix(".pt").exists()


def test_an_older_file_is_named_with_what_to_type_and_left_alone(run, older):
    path, _ = older
    before = path.read_bytes()
    with pytest.raises(DamagedError, match="written by an older version"):
        Run.read(path)
    _, _, err = run("ablation-table", "--runs", path.parent)
    assert f"1 run files of an older version in {path.parent} are not shown: `ltrepro migrate {path.parent}`" in err
    assert "written by an older version" in run("show", path)[2]
    assert f"`ltrepro migrate {path.parent}`" in run("show", path)[2]
    assert path.read_bytes() == before
    code, out, _ = run("migrate", path.parent)
    assert (code, out.splitlines()[-1]) == (0, "1 re-keyed, 0 refused, 0 checkpoints left")
    assert run("ablation-table", "--runs", path.parent)[0] == 0


def test_a_newer_file_is_not_called_damaged(older):
    path, _ = older
    values = json.loads(path.read_text()) | {"schema": 7}
    path.write_text(json.dumps(values))
    with pytest.raises(DamagedError, match="written by a newer version of ltrepro: schema 7") as caught:
        Run.read(path)
    assert "train" not in str(caught.value)


def test_a_damaged_file_is_refused_and_the_others_are_re_keyed(run, older):
    path, _ = older
    bad = path.with_name("digits-r60-dbn_mix-e60-s9-00000000.json")
    bad.write_text(path.read_text())
    code, out, _ = run("migrate", path.parent)
    assert code == 1
    assert "refused: " in out
    assert bad.exists()
    assert "1 re-keyed, 1 refused" in out
