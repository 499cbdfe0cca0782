"""One simulation: the clock decides when, training what; its record, its checkpoints, and going on from them."""
