"""Words: how a text is cut into them, and how much each says (BM25)."""
