"""What lies on disk: run files, weights, checkpoints, locks, and how they get there whole."""
