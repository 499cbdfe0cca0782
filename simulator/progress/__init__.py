"""Watching simulations: in terminals, in notebooks, in TensorBoard or Weights & Biases, and as a profile."""
