"""Lets go of trials that are over.

Ray Tune keeps every trial with its last result until the run ends (ray#64231), and walks through all of
them at every step: with thousands of trials the driver grows without bound and becomes slower with each. The
ledger has what a trial came to, so that Tune needs none of them.
"""

from __future__ import annotations

from typing import Any

from ray.tune.progress_reporter import TrialProgressCallback


class Forgetting:
    """Before a scheduler of Tune: makes the controller forget a trial once another one is over. The last one
    stays, because Tune cannot end without any."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._over: list[Any] = []

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Tune says that a trial is over; it still needs the trial itself until this step ends."""
        super().on_trial_complete(controller, trial, result)  # type: ignore[misc]
        self._over = [*(one for one in self._over if not forget(controller, one)), trial]


def forget(controller: Any, trial: Any) -> bool:
    """Take a finished trial out of Tune's controller; False while it is not quite over. What another version
    of Tune keeps under other names stays."""
    if trial.status != "TERMINATED" or trial in controller._trial_to_actor:
        return False
    trials: list[Any] = controller.get_trials()
    if trial in trials:
        trials.remove(trial)
    for name in ("_stopped_trials", "_trials_to_cache", "_live_trials"):
        getattr(controller, name, set()).discard(trial)
    getattr(controller, "_trial_metadata", {}).pop(trial.trial_id, None)
    _forget_requests(controller._actor_manager)
    return True


def _forget_requests(manager: Any) -> None:
    """A trial that gets a used actor takes its request for one of its own back; the task that was to end
    that one would wait for it for ever."""
    waiting: dict[Any, Any] = getattr(manager, "_pending_actors_to_enqueued_actor_tasks", {})
    for actor in [actor for actor in waiting if actor not in manager._pending_actors_to_attrs]:
        del waiting[actor]


class Silent(TrialProgressCallback):  # type: ignore[misc]
    """Tune adds a reporter of this class where it is given none, which remembers every trial that it saw."""

    def log_result(self, trial: Any, result: Any, error: bool = False) -> None:
        """Nothing is printed."""

    def on_trial_result(self, **told: Any) -> None:
        """Nor kept."""

    on_trial_error = on_trial_complete = on_trial_result
