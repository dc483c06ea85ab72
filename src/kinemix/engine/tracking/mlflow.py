"""MLflow. Its own variables apply: ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``, ..."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kinemix.config import flatten
from kinemix.engine.tracking.base import Opening, Outcome, Tracker, list_scalars

_STATES: Mapping[Outcome, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_MOST_PARAMS = 100  # in one request


class MlflowTracker(Tracker):
    """One MLflow run for each run directory: options and counts are its params, numbers its metrics.

    Where no address is given, MLflow chooses one (a database in the working directory); a run goes on there, from
    whatever directory it is resumed.
    """

    name = "mlflow"
    title = "MLflow"
    package = "mlflow"
    batch_size = 50  # of at most twenty numbers each: MLflow takes a thousand in one request

    def __init__(self, opening: Opening) -> None:
        import mlflow

        known = opening.identity
        uri = os.environ.get("MLFLOW_TRACKING_URI") or known.get("uri") or mlflow.get_tracking_uri()
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        self._run_id = known.get("run_id") or self._start(opening)
        if known:
            self._client.update_run(self._run_id, status="RUNNING")
        self.identity = {"uri": uri, "run_id": self._run_id}
        self.link = f"{uri} (run {self._run_id})"
        newest = self._client.get_run(self._run_id).data.metrics
        self._held = {
            kind: int(newest[f"{kind}/iteration"])
            for kind in ("train", "val")
            if f"{kind}/iteration" in newest
        }

    def _start(self, opening: Opening) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "kinemix")
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(name)
        run = self._client.create_run(
            experiment_id,
            run_name=opening.directory.name,
            tags={"directory": str(opening.directory.absolute())},
        )
        self._log_params(run.info.run_id, {**flatten(opening.config), **opening.count()})
        return run.info.run_id

    def _log_params(self, run_id: str, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(_make_key(name), str(value)) for name, value in values.items()]
        for start in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(run_id, params=params[start : start + _MOST_PARAMS])

    def holds(self, kind: str, iteration: int) -> bool:
        return iteration <= self._held.get(kind, -1)

    def send(self, records: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(_make_key(name), value, int(1000 * record["time"]), record["iteration"])
            for record in records
            for name, value in list_scalars(record).items()
        ]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, outcome: Outcome) -> None:
        self._client.set_terminated(self._run_id, status=_STATES[outcome])


def _make_key(name: str) -> str:
    """The name without the letters that MLflow does not take."""
    return re.sub(r"[^\w. /-]", "_", name)
