"""What `make test` does of the rounds that kill training and writers: few of each, all in one process with torch."""

from pathlib import Path

from chaos import kills, leaving, processes, writers


def round(folder):
    """Returns what each of the rounds found, by name."""
    return processes.run_module("chaos.sample", 600, folder=str(folder))


def main(folder):
    """Returns what `round` does."""
    place = Path(folder)
    return {
        "kills": kills.main(10, 1, place / "kills", forgets=False),
        "writers": writers.main(50, 0, place / "writers", in_place=False),
        "leaving": leaving.main(2, 0, place / "leaving"),
    }


if __name__ == "__main__":
    processes.answer(main)
