"""Where images come from, which of them are trained on, in what order and how augmented."""
