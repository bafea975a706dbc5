"""MLflow's own pages over the store."""

from __future__ import annotations

import sys

from ablator.results.store import Store


def ui_command(store: Store, host: str = "127.0.0.1", port: int = 5000) -> list[str]:
    """The command that serves the store's MLflow database, on the loopback interface only unless `host`
    says otherwise, because MLflow's server asks nobody who they are. Run it with `ui_environment`."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", f"sqlite:///{store.database}"),
        *("--artifacts-destination", store.artifacts.as_uri()),
        *("--host", host, "--port", str(port), "--workers", "1"),
    ]


def ui_environment() -> dict[str, str]:
    """Variables that keep that server small: without job execution it is 2 processes instead of 15."""
    return {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
