"""The routes of the public contract: each checks rights, runs the work in a thread and logs it."""
