"""The handwritten digits that come with this package (`data/digits.md`): a test bed, with no test images of its own."""

from dataclasses import replace
from pathlib import Path

from lt_repro.data.dataset import DataSet
from lt_repro.data.images import Pool
from lt_repro.data.npz import read_npz


class _Digits(DataSet):
    def read(self, root: Path) -> Pool:
        """Returns the images; nothing is read from `root`."""
        pool = read_npz(Path(__file__).parents[1] / "digits.npz", self.name, self.hold_out)
        return replace(pool, content="published")


DATASET = _Digits(
    name="digits",
    title="Digits",
    long_tailed="Digits-LT",
    sizes=(178, 182, 177, 183, 181, 182, 181, 179, 174, 180),
    side=8,
    hold_out=50,
    bundled=True,
)
