"""The one training loop, the state of a run under way, evaluation, and the run file that it ends in."""
