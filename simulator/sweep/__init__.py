"""Many simulations: in this process, in several local ones, or on the machines of a Ray cluster.

A sweep's way: `plan` names the points and their folders and puts them into tasks, those that share training
(`reuse_plan`) into one. `task` simulates the points of a task, one after the other, each into its own folder. `sweep`
does that in this process, or has `executors` do it in others and retry what they lose; `progress` and `status` read
the points' folders. Axes that are searched come first (`search`). `estimate` says what it all will cost.
"""
