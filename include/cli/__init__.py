"""The command line: one module a group of commands, one way to print and to fail."""
