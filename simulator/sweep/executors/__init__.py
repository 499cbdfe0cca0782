"""Executors of a sweep's points: in this process, in several, or on a Ray cluster."""
