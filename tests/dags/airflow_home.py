"""An Airflow of its own for the tests of this process; Airflow reads these variables when it is first imported."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PLUGINS = PROJECT_ROOT / "plugins"


def use_own_airflow_home() -> None:
    """Point Airflow at a temporary folder, unless something imported it already."""
    if "airflow" in sys.modules:
        return
    home = tempfile.mkdtemp(prefix="ragworks-airflow-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ.update(
        {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        }
    )
    if str(PLUGINS) not in sys.path:
        sys.path.insert(0, str(PLUGINS))
