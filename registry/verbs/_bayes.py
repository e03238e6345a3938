"""Which points to try next: Optuna's TPE sampler, asked for a batch of points and told what they gave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from registry.errors import UsageError
from registry.results import Objective
from registry.verbs._points import Constraint, Metrics, Values, Variable

_NEVER = 1e300
_SEED_BITS = 32


def require() -> Any:
    """Optuna. Raises ``UsageError`` where it is missing."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise UsageError(
            "--search bayes needs Optuna", hint="pip install 'adapter-registry[sweep]', or --search grid"
        ) from None
    return optuna


class Bayes:
    """A study: the same seed, told the same, asks for the same points.

    ``known`` are points that were measured before, which it begins with. Raises ``UsageError`` where Optuna is missing.
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint],
        *,
        seed: int,
        known: Iterable[tuple[Values, Metrics]],
    ) -> None:
        optuna = require()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._variables, self._objectives, self._constraints = variables, objectives, constraints
        self._study: Any = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed % 2**_SEED_BITS),
            directions=["minimize" if each.direction == "min" else "maximize" for each in objectives],
        )
        self._asked: dict[int, dict[str, Decimal]] = {}
        for values, metrics in known:
            self._begin_with(values, metrics)

    def batches(self, budget: int, size: int) -> Iterator[list[tuple[Any, dict[str, Decimal]]]]:
        """Trials with their values, ``budget`` of them, ``size`` at a time; each batch is to be told before the next."""
        while budget > 0:
            trials = [self._study.ask() for _ in range(min(size, budget))]
            budget -= len(trials)
            yield [(trial, self._suggested(trial)) for trial in trials]

    def tell(self, trial: Any, values: Values, metrics: Metrics | None) -> None:
        """What a trial gave at these values, which need not be those that were asked for; None where it failed."""
        state = self._optuna.trial.TrialState
        if self._asked.pop(trial.number) != values:
            self._study.tell(trial, state=state.FAIL)  # as if it had not been asked for
            self._begin_with(values, metrics)
            return
        for name, excess in self._excess(metrics).items():
            trial.set_constraint(name, excess)
        if metrics is None:
            self._study.tell(trial, state=state.PRUNED)
        else:
            self._study.tell(trial, [metrics[each.metric] for each in self._objectives])

    def _excess(self, metrics: Metrics | None) -> dict[str, float]:
        """By how much constraints are missed. What fails misses one by most: of what only fails Optuna learns nothing."""
        if metrics is None:
            return {"it is measured": _NEVER}
        return {str(each): each.excess(metrics) for each in self._constraints}

    def _suggested(self, trial: Any) -> dict[str, Decimal]:
        found = self._asked[trial.number] = {each.name: self._value(trial, each) for each in self._variables}
        return found

    def _value(self, trial: Any, variable: Variable) -> Decimal:
        if variable.values:
            position = int(trial.suggest_int(variable.name, 0, len(variable.values) - 1))
            return variable.values[position]
        found = float(trial.suggest_float(variable.name, float(variable.low), float(variable.high)))
        return variable.near(Decimal(repr(found)))

    def _begin_with(self, values: Values, metrics: Metrics | None) -> None:
        """Told of as if it had been asked for; a point outside of what is looked at is left out."""
        told: dict[str, int | float] = {}
        distributions: dict[str, Any] = {}
        of = self._optuna.distributions
        for each in self._variables:
            value = values[each.name]
            if each.values and value in each.values:
                told[each.name] = each.values.index(value)
                distributions[each.name] = of.IntDistribution(0, len(each.values) - 1)
            elif not each.values and each.low <= value <= each.high:
                told[each.name] = float(value)
                distributions[each.name] = of.FloatDistribution(float(each.low), float(each.high))
            else:
                return
        state = self._optuna.trial.TrialState
        self._study.add_trial(
            self._optuna.trial.create_trial(
                params=told,
                distributions=distributions,
                state=state.PRUNED if metrics is None else state.COMPLETE,
                values=None if metrics is None else [metrics[each.metric] for each in self._objectives],
                constraints=self._excess(metrics) or None,
            )
        )
