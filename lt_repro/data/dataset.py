"""What a data set that is known by name declares. Each is a file of `data/sets/`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lt_repro.data.images import Pool
from lt_repro.errors import RequestError

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""The mean and standard deviation of each channel, on the scale of [0, 1]."""


class NotThere(RequestError):
    """A data set that can be downloaded is not on this machine.

    Attributes:
        name: Of the data set.
    """

    kind = "not there"
    name = ""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set that is known by name; a subclass reads its images.

    Attributes:
        name: As it is typed: that of its file.
        title: "CIFAR-100".
        long_tailed: What a caption calls its long-tailed versions: "CIFAR-LT-100".
        sizes: Training images of each of the K classes, those to hold out included.
        side: Height and width of an image in pixels.
        hold_out: Images of each class that a split must hold out for testing; 0 if there are test images.
        statistics: None to measure them on the training images.
        bundled: Whether the images come with this package.
        published: The file that images are compared with (`published.differences`); None where there is none.
    """

    name: str
    title: str
    long_tailed: str
    sizes: tuple[int, ...]
    side: int
    hold_out: int = 0
    statistics: Statistics | None = None
    bundled: bool = False
    published: Path | None = None

    def read(self, root: Path) -> Pool:
        """Returns the images, read and checked; nothing is downloaded.

        Args:
            root: The folder of the data sets.

        Raises:
            NotThere: They are not in `root`, and `download` gets them.
            RequestError: A file is missing, cannot be read or has wrong content.
            DamagedError: A file is not the published one, or cannot be read.
        """
        raise NotImplementedError

    def download(self, root: Path, report: Callable[[int, int], None]) -> Path:
        """Returns the path of what was downloaded into `root`; only called after `read` has raised `NotThere`.

        Args:
            root: The folder of the data sets; made if missing.
            report: Called about once per MB with the bytes done and the total bytes (0 if unknown).

        Raises:
            NotThere: No connection, a full disk, or the download is not the published file.
        """
        raise NotImplementedError
