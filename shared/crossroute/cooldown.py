"""Rests for candidates that fail: a circuit breaker for each model.

A model that has failed some times with no success between rests, and is no candidate meanwhile.
Afterwards one call at a time tries it: a success ends that, a failure makes it rest for longer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from crossroute.errors import ConstraintError, shortened
from crossroute.ranking import amount

LEAST_RETRY_AFTER = 1.0
"""Seconds; if a provider asks for less, the failure is one like others."""


@dataclass(frozen=True, slots=True)
class Cooldown:
    """When a model that fails rests, and for how long.

    Attributes:
        failures: So many failures in a row within the window make a model rest. Those count that
            another model may not share (`crossroute.failures.may_pass_elsewhere`).
        window_seconds: How long a failure counts.
        rest_seconds: How long a model rests the first time.
        most_rest_seconds: How long it rests at most, whatever a provider's Retry-After says.
        clock: Seconds that never go back.

    Raises:
        ConstraintError: If a number makes no sense.
    """

    failures: int = 3
    window_seconds: float = 60.0
    rest_seconds: float = 30.0
    most_rest_seconds: float = 600.0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.failures, bool) or not isinstance(self.failures, int):
            raise ConstraintError(f"failures is {shortened(self.failures)}; give a whole number.")
        if self.failures < 1:
            raise ConstraintError(f"failures is {self.failures}; give a number from 1 up.")
        for name in ("window_seconds", "rest_seconds", "most_rest_seconds"):
            if not amount(getattr(self, name)):
                raise ConstraintError(
                    f"{name} is {shortened(getattr(self, name))}; give seconds above 0."
                )
        if self.rest_seconds > self.most_rest_seconds:
            raise ConstraintError(
                f"rest_seconds is {self.rest_seconds:g}, more than most_rest_seconds "
                f"({self.most_rest_seconds:g}); make it shorter."
            )


DEFAULT_COOLDOWN = Cooldown()


@dataclass(slots=True)
class _Health:
    """Of a model that has failed since its last success.

    Attributes:
        failed_at: When, within the window.
        until: When its rest ends or has ended; None if it has not rested.
        rest: How long its last rest was, in seconds.
        tried_at: When a call began to try it after its rest; None if none does.
    """

    failed_at: list[float] = field(default_factory=list)
    until: float | None = None
    rest: float = 0.0
    tried_at: float | None = None


class Rests:
    """Which models of a router rest; safe to share between threads and tasks.

    Args:
        cooldown: When they do.
    """

    def __init__(self, cooldown: Cooldown) -> None:
        self.cooldown = cooldown
        # A stream that is collected, and so ends, within this lock does not wait for itself.
        self._lock = threading.RLock()
        self._health: dict[str, _Health] = {}

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins anew: no lock can be copied, and another process has another clock."""
        return {"cooldown": self.cooldown}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock(), _health={})

    def why_not(self, model: str) -> str | None:
        """Why a model is no candidate now; None if it is one."""
        # Nearly always nothing has failed.
        if model not in self._health:
            return None
        with self._lock:
            health = self._health.get(model)
            if health is None or health.until is None:
                return None
            now = self.cooldown.clock()
            if now < health.until:
                return f"rests for {health.until - now:.0f} s more, as it has failed"
            if self._is_tried(health, now):
                return "has rested as it failed, and another call is trying it"
            return None

    def begin(self, model: str) -> bool | None:
        """Begin to ask a model.

        Returns:
            Whether this call is the one that tries it after its rest; None if another one does.
        """
        if model not in self._health:
            return False
        with self._lock:
            health = self._health.get(model)
            now = self.cooldown.clock()
            if health is None or health.until is None or now < health.until:
                return False
            if self._is_tried(health, now):
                return None
            health.tried_at = now
            return True

    def succeeded(self, model: str, *, trial: bool = False) -> None:
        """A model has answered: what was before is forgotten.

        Args:
            model: Its id.
            trial: Whether it was asked after it had begun to rest; an answer to a call from before
                does not end a rest.
        """
        if model not in self._health:
            return
        with self._lock:
            health = self._health.get(model)
            if health is not None and (trial or health.until is None):
                self._health.pop(model, None)

    def failed(self, model: str, retry_after: float | None = None, *, trial: bool = False) -> None:
        """A model has failed in a way that others may not.

        Args:
            model: Its id.
            retry_after: Seconds in which its provider wants no further call, if it said so.
            trial: Whether this call was the one to try it.
        """
        settings = self.cooldown
        with self._lock:
            health = self._health.setdefault(model, _Health())
            now = settings.clock()
            seconds = 0.0
            if trial:
                health.tried_at = None
                seconds = 2 * health.rest
            elif health.until is None:
                recent = [at for at in health.failed_at if now - at < settings.window_seconds]
                health.failed_at = [*recent, now][-settings.failures :]
                if len(health.failed_at) >= settings.failures:
                    seconds = settings.rest_seconds
            # Otherwise the call began before the rest, and says nothing new.
            if retry_after is not None and retry_after >= LEAST_RETRY_AFTER:
                seconds = max(seconds, retry_after)
            seconds = min(seconds, settings.most_rest_seconds)
            if seconds > 0:
                health.rest = seconds
                health.until = max(health.until or 0.0, now + seconds)

    def released(self, model: str) -> None:
        """The call that tried a model ended without an answer or a failure of the model's."""
        with self._lock:
            if (health := self._health.get(model)) is not None:
                health.tried_at = None

    def _is_tried(self, health: _Health, now: float) -> bool:
        # A call that nobody ever ended must not keep a model out for good.
        at = health.tried_at
        return at is not None and now - at < self.cooldown.most_rest_seconds
