"""Many simulations: in this process, in several local ones, or on the machines of a Ray cluster."""
