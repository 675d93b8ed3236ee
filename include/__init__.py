"""The work itself, plain Python: what Airflow tasks, the command line, the GPU image and the API server run. Never imports airflow."""
