"""A worker process that dies costs its job; the others are carried out, each once."""

import math
import os
import re
import sys
from collections import Counter

import pytest
from hydra.core.utils import JobReturn, JobStatus
from joblib.externals.loky.process_executor import TerminatedWorkerError

from aegaeon.experiment import hydra_job, notes, workers
from aegaeon.results.store import records

JOBS = [[f"models.count={n}"] for n in range(6)]
FATAL = {1, 4}


class Pool:
    """Two workers: with a job, the next one is in flight; a fatal job ends both."""

    def __init__(self, fatal):
        self.fatal = fatal
        self.ended = Counter()

    def launch(self, jobs, first):
        returned = []
        for position, (job,) in enumerate(jobs):
            number = int(job.partition("=")[2])
            if position + 1 < len(jobs):
                notes.marked(first + position + 1).__enter__()
            with notes.marked(first + position):
                if number in self.fatal:
                    raise TerminatedWorkerError("A worker died. Exit codes are {SIGKILL(-9)}")
            self.ended[number] += 1
            returned.append(JobReturn([job], status=JobStatus.COMPLETED, _return_value=number))
        return returned


def survived(launch, monkeypatch):
    launcher = workers.launcher_class()
    monkeypatch.setattr(launcher, "launch", lambda _, jobs, first: launch(jobs, first))
    before = launcher.launch
    with notes.collected(bar=False) as left, workers.surviving():
        returned = launcher().launch(JOBS, 7)
    assert launcher.launch is before
    return [job.return_value for job in returned], left


def test_the_jobs_that_kill_are_named_and_the_others_end_once(monkeypatch):
    pool = Pool(FATAL)
    values, left = survived(pool.launch, monkeypatch)
    assert pool.ended == Counter(set(range(6)) - FATAL)
    # What an ended job returned is lost with the pool.
    assert {n for n, value in enumerate(values) if math.isnan(value)} >= FATAL
    assert sorted(note["error"].partition(":")[0] for note in left) == [
        *("models.count=1", "models.count=4"),
    ]
    assert "killed by SIGKILL(-9)" in left[0]["error"]
    assert {note["user"] for note in left} == {False}


def test_a_sweep_without_deaths_returns_what_its_jobs_return(monkeypatch):
    values, left = survived(Pool(set()).launch, monkeypatch)
    assert (values, left) == (list(range(6)), [])


def test_a_pool_that_starts_no_job_ends(monkeypatch):
    def launch(jobs, first):
        raise TerminatedWorkerError("no memory")

    _, left = survived(launch, monkeypatch)
    assert len(left) == len(JOBS)


@pytest.mark.slow
def test_a_killed_worker_costs_one_run_and_is_logged_as_failed(tmp_path, capfd, monkeypatch):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if 'loky' in ' '.join(sys.orig_argv):\n"
        "    import aegaeon.experiment.hydra_job as job\n"
        "    run = job.execute\n"
        "    def execute(plan, *rest, **more):\n"
        "        if len(plan.deployment.models) == 48:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return run(plan, *rest, **more)\n"
        "    job.execute = execute\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    runs = tmp_path / "runs"
    arguments = ["experiment=kick", "system=aegaeon", f"paths.runs={runs}"]
    code = hydra_job.run_hydra([*arguments, "hydra.launcher.n_jobs=2"])
    said = capfd.readouterr().err
    assert code == 1, said
    assert "2 finished, 1 failed" in said
    assert re.search(r"error: .*models.count=48.*: the worker process was killed by SIGKILL", said)
    assert "Traceback" not in said
    assert Counter(facts["status"] for facts in records(runs, "kick")) == {
        "finished": 2,
        "running": 1,
    }
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{runs}/mlflow.db")
    place = client.get_experiment_by_name("kick")
    runs_there = client.search_runs([place.experiment_id], "tags.kind = 'run'")
    assert Counter(r.info.status for r in runs_there) == {"FINISHED": 2, "FAILED": 1}
    assert sys.argv[0] != "aegaeon run"
