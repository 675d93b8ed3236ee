"""What the triggerer runs for us. It loads no DAG bundle: it finds these because ``plugins/`` is on its path."""
