"""Inner and outer optimizers as optax transforms: built-in, optax's own and registered ones."""
