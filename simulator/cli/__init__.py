"""The commands of `tardigrad`, as plain functions: `simulator.cli.main` turns their errors into messages."""
