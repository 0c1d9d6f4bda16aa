"""How fast we train beside the field's usual loop, both against what the machine can do. Read `compare` first."""
