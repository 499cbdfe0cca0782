"""Where the points of a sweep are simulated: in this process, in several, or on a Ray cluster."""
