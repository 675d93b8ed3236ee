"""How the work in ``include`` meets Airflow."""
