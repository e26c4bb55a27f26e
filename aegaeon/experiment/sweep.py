"""What `aegaeon run` sweeps over, read from the composed configuration before Hydra starts.

An experiment lists the parameters that it sweeps over, and their values, in `hydra.sweeper.params`.
Hydra itself reads them with `-m` only, and without it runs a single point.
"""

from __future__ import annotations

import itertools
import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf

from aegaeon.errors import UserError
from aegaeon.experiment.compose import compose_raw, parse
from aegaeon.experiment.hydra_options import check_hydra, check_override, listed_sweeps
from aegaeon.experiment.refusals import refuse_unknown_keys, translated

MOST_RUNS = 100_000


@dataclass(frozen=True, slots=True)
class Sweep:
    """The parameters of a run with their values.

    Attributes:
        name: of the experiment.
        values: of each parameter that is swept over, by its key.
        own: the keys in `hydra.sweeper.params` that the arguments do not set to a single value.
        seeds: runs per point; None if Hydra alone can tell how many runs there are.
        tracking: the folder of the runs and the tracking store, as configured; None if unknown.
    """

    name: str = ""
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    own: Sequence[str] = ()
    seeds: int | None = None
    tracking: tuple[str, str] | None = None

    @property
    def runs(self) -> int | None:
        """The number of runs."""
        return self.seeds and self.seeds * math.prod(map(len, self.values.values()))

    def notice(self) -> str:
        """Return the sentence that tells the user of the sweep, and how to run a single point."""
        point = " ".join(f"{key}={self.values[key][0]}" for key in self.own)
        return (
            f"{self.name} sweeps over {', '.join(self.own)}: running it as a sweep of "
            f"{self.runs} runs, as with -m. One value for each, as in {point}, runs a single point."
        )


def requested(arguments: Namespace) -> Sweep:
    """Return what parsed arguments of Hydra's command line sweep over.

    Raises UserError for what cannot be composed, for a sweep without values, and for a sweep over
    experiments that are sweeps themselves.
    """
    if arguments.config_path is not None:
        return Sweep()
    with translated():
        overrides = parse(arguments.overrides)
        for override in overrides:
            check_override(override)
        given = {o.get_key_element(): o for o in overrides}
        experiments = values_of(given["experiment"]) if "experiment" in given else [""]
        found = [_with_experiment(arguments, given, name) for name in experiments]
    many = arguments.multirun or (found[0].own and not arguments.run)
    if not many and (swept := [o.input_line for o in overrides if o.is_sweep_override()]):
        raise UserError(
            f"{swept[0]}: several values are a sweep, which needs -m; a list is written in "
            "brackets, and text with commas in quotes"
        )
    if len(found) == 1:
        return found[0]
    for sweep in found:
        if lost := [key for key in sweep.own if key not in given]:
            raise UserError(
                f"experiment: {sweep.name} sweeps over {', '.join(lost)}, and a sweep over "
                "experiments would run one point of it; run one experiment at a time"
            )
    return Sweep()


def swept_by(experiment: str) -> dict[str, list[str]]:
    """Return the values that an experiment of conf/experiment/ sweeps over, by key."""
    cfg = compose_raw([f"experiment={experiment}"], hydra=True)
    return {key: values_of(override) for key, override in parameters(cfg.hydra).items()}


def _with_experiment(arguments: Namespace, given: Mapping[str, Override], name: str) -> Sweep:
    """Return the sweep of `given` with one experiment; other sweeps are composed by first value."""
    chosen = {k: f"{k}={_first(o)}" for k, o in given.items() if o.is_sweep_override()}
    chosen = {k: o.input_line or "" for k, o in given.items()} | chosen
    if name:
        chosen["experiment"] = f"experiment={name}"
    folder = arguments.config_dir
    more = [f"hydra.searchpath=['file://{Path(folder).absolute()}']"] if folder else []
    cfg = compose_raw([*more, *chosen.values()], arguments.config_name or "config", hydra=True)
    refuse_unknown_keys(cfg)
    check_hydra(cfg)
    own = parameters(cfg.hydra)
    single = {key for key, o in given.items() if not o.is_sweep_override()}
    swept = {key: o for key, o in {**own, **given}.items() if key not in single}
    left = tuple(key for key in own if key in swept)
    tracking = (cfg.paths.runs, cfg.tracking.uri)
    if not listed_sweeps(cfg):
        # The sweeper alone knows how many points it will choose.
        first = {key: [_first(o)] for key, o in swept.items()}
        return Sweep(cfg.name, first, left, tracking=tracking)
    values = {key: values_of(o) for key, o in swept.items()}
    sweep = Sweep(cfg.name, values, left, len(cfg.seeds), tracking)
    if sweep.runs and sweep.runs > MOST_RUNS:
        raise UserError(
            f"{', '.join(sweep.values)}: {sweep.runs:,} runs are asked for, and a sweep takes "
            f"{MOST_RUNS:,} at most; lower the number of values"
        )
    return sweep


def parameters(hydra: DictConfig) -> dict[str, Override]:
    """Return the sweep parameters of Hydra's own part of a configuration, by key."""
    params = OmegaConf.select(hydra, "sweeper.params") or {}
    return {o.get_key_element(): o for o in parse(f"{k}={v}" for k, v in params.items())}


def values_of(override: Override) -> list[str]:
    """Return what an override gives its key, as written in overrides; one value without a sweep.

    Raises UserError for a sweep without values, or one whose values cannot be listed.
    """
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    text = override.input_line
    if not override.is_discrete_sweep():
        raise UserError(
            f"{text}: an interval needs a sweeper that chooses points, such as "
            "hydra/sweeper=optuna; write the values, or a range(START,STOP,STEP)"
        )
    found = list(itertools.islice(override.sweep_string_iterator(), MOST_RUNS + 1))
    if not found:
        raise UserError(f"{text}: there is no value in it; a range needs START below STOP")
    if len(found) > MOST_RUNS:
        raise UserError(f"{text}: there are more than {MOST_RUNS:,} values in it; give fewer")
    return found


def _first(override: Override) -> str:
    """Return a value of an override that the configuration can be composed with."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return f"{value.start:g}"
    return values_of(override)[0]
