"""What `jobs.sweep` does: checks space, metric and room before anything starts, searches, and concludes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cluster.records.opening import check_place
from cluster.runtime.connect import connect
from cluster.sweeps import tuning
from cluster.sweeps.records import TrialRecord
from cluster.sweeps.search import SearchPlan, check_plan
from cluster.sweeps.space import Space
from cluster.sweeps.tuning import TrialResources
from jobs.command_line import main as cli
from jobs.command_line.flags import UsageError
from jobs.command_line.settings_files import PRESETS, read_settings_file
from jobs.command_line.values import read_assignments
from jobs.sweeps.confirming import CONFIRMATION, confirmation_space, confirming_trials, read_confirmation
from jobs.sweeps.metrics import check_comparable, check_metric, metric_of
from jobs.sweeps.report import write_sweep_report
from jobs.sweeps.summary import SWEEP, best_trial, write_best
from jobs.sweeps.trials import OF_THE_SEARCH, Trials, set_by_search
from jobs.trainings.sweep import SweepConfig
from jobs.trainings.training_jobs import CONFIGS
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.plain_yaml import plain_yaml
from motions.settings import Settings, options_of, spellings_of

SPACES = PRESETS / "spaces"
DEFAULT_TRIALS = 16


@dataclass(frozen=True)
class PreparedSearch:
    """A search that is checked and could start."""

    config: SweepConfig
    space: Space
    plan: SearchPlan
    trials: Trials
    resources: TrialResources
    set_by_search: tuple[str, ...]
    """Options of the training that the search sets for itself."""

    @property
    def num_steps(self) -> int | None:
        """Steps of every trial; None where the training counts its length otherwise, or the space varies it."""
        counted = self.config.trial.job in ("grpo", "pretrain", "train_retrieval")
        path = "run.num_steps"
        return self.trials.base[path] if counted and path not in self.space.domains else None

    def document(self) -> dict[str, Any]:
        """`sweep.yaml`: what the search is, for its report and for those who continue it."""
        return {
            "job": self.config.trial.job,
            "metric": self.plan.metric,
            "mode": self.plan.mode,
            "against": [list(pair) for pair in self.plan.against],
            "space": {path: domain.as_yaml() for path, domain in self.space.domains.items()},
            "base": dict(self.trials.base),
            "set_by_search": sorted(self.set_by_search),
            "options": self.config.model_dump(mode="json", exclude={"resume", "cluster", "save_dir"}),
        }


def run(config: SweepConfig) -> None:
    """Searches, or continues a search, and writes report and best configuration.

    Raises:
        UserError: the space, a metric or the folder is not as a search needs it, or every trial failed.
        StartError: no trial would ever start on the cluster.
    """
    prepared = prepare(config)
    folder = config.save_dir.absolute()
    with tuning.held(folder), connect(config.cluster, config.trial.cpus_per_trial):
        tuning.room_on_cluster(prepared.resources)
        with atomic_write(folder / SWEEP) as file:
            file.write(plain_yaml(prepared.document()).encode())
        print(f"searching {', '.join(prepared.space.domains)} in {prepared.plan.num_trials} trials: {folder}")
        trials = tuning.search(
            folder,
            prepared.trials,
            prepared.space,
            prepared.plan,
            prepared.resources,
            num_steps=prepared.num_steps,
            retries=config.trial.trial_retries,
            after_trial=tell,
        )
        best = best_trial(trials, prepared.plan.metric, prepared.plan.mode)
        print(f"best: {best.name}, {prepared.plan.metric} {best.metrics[prepared.plan.metric]:.4g}")
        print(f"its configuration: {write_best(folder)}")
        if config.search.confirm_seeds:
            confirm(prepared, folder, best)
    print(f"report: {write_sweep_report(folder)}")


def confirm(prepared: PreparedSearch, folder: Path, best: TrialRecord) -> None:
    """Trains the best setting and the start of the search with other seeds, and says by how much they differ.

    Raises:
        UserError: all of these trials failed.
    """
    seeds = prepared.config.search.confirm_seeds
    print(f"confirming with {seeds} other seeds: {folder / CONFIRMATION}")
    tuning.search(
        folder / CONFIRMATION,
        confirming_trials(prepared.trials, best.options),
        confirmation_space(seeds),
        replace(prepared.plan, search="grid", scheduler="none", num_trials=2 * seeds, against=()),
        prepared.resources,
        retries=prepared.config.trial.trial_retries,
    )
    confirmed = read_confirmation(folder, prepared.plan.metric)
    print("no seed has both settings" if confirmed is None else confirmed.words(prepared.plan.metric))


def tell(folder: Path, trial: TrialRecord) -> None:
    """Says that a trial has ended, and writes the report of the search that goes on."""
    value = f", {trial.history[-1][1]:.4g}" if trial.history else ""
    options = ", ".join(f"{path.rpartition('.')[2]} {shown(value)}" for path, value in trial.options.items())
    print(f"{trial.name} {trial.state} after step {trial.step}{value}: {trial.error or options}", flush=True)
    write_sweep_report(folder)


def shown(value: Any) -> str:
    """An option's value in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def plan(config: SweepConfig) -> None:
    """For `--dry_run`: prints options, space and what a trial reserves, and checks all that a search checks before it
    starts, without a cluster."""
    prepared = prepare(config)
    print(cli.settings_yaml(config))
    print(f"\nsave_dir {config.save_dir}: {'resume' if config.resume else 'new'}")
    print(f"{prepared.plan.num_trials} trials of jobs.{config.trial.job}, {prepared.plan.mode} {prepared.plan.metric}")
    for path, domain in prepared.space.domains.items():
        print(f"  {path}: {domain.kind} {', '.join(map(str, domain.values))}")
    for path, value in prepared.space.fixed.items():
        print(f"  {path}: {value} in all trials")
    print(f"each trial reserves {prepared.resources.cpus:g} CPU, {prepared.resources.gpus:g} GPU, in one process")


def prepare(config: SweepConfig) -> PreparedSearch:
    """Reads and checks the space, and lays out the search.

    Raises:
        UserError: an unknown option, an empty range or an illegal value in the space, a metric that no trial reports,
            or a folder that holds another search.
    """
    job, trial = config.trial.job, config.trial
    check_place(config.save_dir)
    space = read_space(config)
    model = CONFIGS[job]
    own = set_by_search(model, trial.report_every, config.search.scheduler == "pbt") | placed(model, config)
    given = {config.trial.space: space.fixed, "set": read_assignments("--set", trial.set, model), "": own}
    base = cli.load_settings(model, f"jobs.{job}", given, preset=trial.preset, file=trial.config)
    check_domains(model, config, space, given)
    plan = search_plan(config, base, space)
    check_plan(plan, space)
    for metric in (plan.metric, *(metric for metric, _ in plan.against)):
        check_metric(job, base, metric)
        check_comparable(base, space.domains, metric)
    prepared = PreparedSearch(
        config,
        space,
        plan,
        Trials(job, base.by_path(), trial.threads_per_trial),
        TrialResources(trial.cpus_per_trial, trial.gpus_per_trial),
        tuple(own),
    )
    check_folder(config, prepared.document())
    return prepared


def read_space(config: SweepConfig) -> Space:
    """The space of the file, or the shipped one of that name.

    Raises:
        UsageError: the file cannot be read, or has an unknown option, or one that the search sets itself.
        MistakesError: a domain is not as it should be.
    """
    job, name = config.trial.job, config.trial.space
    path = Path(name) if name.endswith((".yaml", ".yml")) else SPACES / f"{name}.yaml"
    if not path.is_file() and path.parent == SPACES:
        raise UsageError([f"--space {name}: no such space; there are {', '.join(spaces())}; or give a .yaml path"])
    values = read_settings_file(path, CONFIGS[job], f"jobs.{job}")
    refused = reserved(CONFIGS[job], values, config.trial.report_every)
    if refused:
        raise UsageError([f"{path}: {name} is set by the search itself" for name in refused])
    return Space.read(values, str(path))


def spaces() -> list[str]:
    """Names of the shipped spaces."""
    return sorted(path.stem for path in SPACES.glob("*.yaml"))


def reserved(model: type[Settings], values: Mapping[str, Any], report_every: int | None) -> list[str]:
    """Flags among options that the search sets itself."""
    names = OF_THE_SEARCH if report_every is not None else OF_THE_SEARCH[:-2]
    paths = {spellings_of(model).get(name) for name in names}
    return [options_of(model)[path].flag for path in values if path in paths]


def placed(model: type[Settings], config: SweepConfig) -> dict[str, Any]:
    """The run directory of a trial, for the checks."""
    return {spellings_of(model)["save_dir"]: config.save_dir / "trials" / "trial", spellings_of(model)["resume"]: True}


def check_domains(
    model: type[Settings], config: SweepConfig, space: Space, given: Mapping[str, Mapping[str, Any]]
) -> None:
    """Checks that the training accepts the values of a space: each domain's ends or choices, one domain at a time.

    Raises:
        UsageError: it does not.
    """
    mistakes = []
    for values in space.tested():
        try:
            cli.load_settings(
                model,
                f"jobs.{config.trial.job}",
                {**given, f"of {config.trial.space}": values},
                preset=config.trial.preset,
                file=config.trial.config,
            )
        except UsageError as error:
            mistakes += error.lines
    if mistakes:
        raise UsageError(list(dict.fromkeys(mistakes)))


def search_plan(config: SweepConfig, base: Settings, space: Space) -> SearchPlan:
    """How the trials are chosen and ended."""
    options = config.search
    metric, mode = config.searched
    if options.metric is None:
        metric = metric_of(base, space.domains, metric)
    interval = spellings_of(type(base)).get("save_interval")
    every = 1 if interval is None else options_of(type(base))[interval].of(base)
    return SearchPlan(
        search=options.search,
        scheduler=options.scheduler,
        num_trials=len(space.grid()) if options.search == "grid" else options.num_trials or DEFAULT_TRIALS,
        metric=metric,
        mode=mode,
        against=config.against,
        grace_steps=options.grace_steps or every,
        reduction_factor=options.reduction_factor,
        max_concurrent=options.max_concurrent,
        seed=options.search_seed,
    )


def check_folder(config: SweepConfig, document: Mapping[str, Any]) -> None:
    """Checks that the folder is new, or holds this very search and it is to go on.

    Raises:
        UserError: it holds something else.
    """
    folder = config.save_dir
    names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")] if folder.is_dir() else []
    if not names:
        return
    if SWEEP not in names:
        raise UserError(f"save_dir {folder} is not empty and holds no search (no {SWEEP}); choose a new folder")
    if not config.resume:
        raise UserError(f"save_dir {folder} holds a search already; continue it with --resume, or choose a new folder")
    before = yaml.safe_load((folder / SWEEP).read_text(encoding="utf-8"))
    now = yaml.safe_load(plain_yaml(dict(document)))
    changed = [name for name in now if name != "options" and before.get(name) != now[name]]
    changed += [
        f"{group}.{name}"
        for group in ("trial", "search")
        for name, value in now["options"][group].items()
        if before["options"][group].get(name) != value
    ]
    if changed:
        raise UserError(
            f"save_dir {folder} holds another search: {', '.join(changed)} differ; give the options as they were, or "
            "choose a new folder"
        )
