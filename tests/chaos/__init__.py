"""What is done to runs and their files on purpose, with a count and a seed; the tests and `make chaos` call it."""
