"""Which recipes of a table are missing, and who runs them."""
