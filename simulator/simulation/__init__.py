"""One simulation: the clock joined with training, its record, its checkpoints, and resuming from them.

A simulation's way: `simulate` builds a `Simulation` (timeline, cluster and setup of an experiment) and a `run` of it.
The run goes through the timeline's events; for each a `learner` trains (or replays what was trained before, `replay`,
or does nothing), and the `recorder` keeps what is to be known. Now and then the `checkpointer` saves the learner's
state. A run that resumes goes through the events up to its checkpoint with a replaying learner, and trains from
there.
"""
