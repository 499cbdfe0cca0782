"""The machine that a simulation runs on: what JAX sees of it, signals, output, caches, text and numbers for people."""
