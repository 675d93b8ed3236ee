"""The work itself, plain Python, that Airflow tasks, the command line, the GPU image and the API server run: never airflow."""
