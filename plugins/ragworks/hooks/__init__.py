"""Connections of Airflow, as ``include`` needs them."""
