"""What several benchmarks share: a fake embedder, made-up corpora, a Postgres of their own, the bare script."""
