"""The commands of `tardigrad`, as plain functions: what they raise is turned into a message by `simulator.cli.main`."""
