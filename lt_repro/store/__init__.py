"""Files on disk: run files, weights, checkpoints, locks, and writes that are whole or not at all."""
