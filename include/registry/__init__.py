"""Which models there are, which one serves, and how another one takes its place."""
