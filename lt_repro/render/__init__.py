"""Tables and figures as pure functions of (Table, runs)."""
