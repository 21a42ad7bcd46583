"""The command `crossroute`: one module a group of commands."""
