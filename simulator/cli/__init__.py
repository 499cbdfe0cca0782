"""The `tardigrad` command: `main` starts it, `commands` has the options, every other module does some commands."""
