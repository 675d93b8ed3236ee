"""The server under load while its index changes: failures, mixed answers, and its search beside a bare query."""
