"""Tasks: each calls one step of ``include``."""
