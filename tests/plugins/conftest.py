"""Nothing here touches the Airflow of the person who runs the tests."""

from __future__ import annotations

from tests.dags.airflow_home import use_own_airflow_home

use_own_airflow_home()
