"""One simulation: the clock joined with training, its record, its checkpoints, and resuming from them."""
