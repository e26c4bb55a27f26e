"""`aegaeon run` hands its arguments to Hydra as they are; `reproduce` stops when it is told to."""

import signal

import pytest
from click.shell_completion import BashComplete

from aegaeon.cli import cli
from aegaeon.experiment import hydra_job, reproduce
from aegaeon.signals import stoppable

VERBATIM = [
    "",
    "--help",
    "-h",
    "--version",
    "-m experiment=kick",
    "--multirun experiment=kick system=aegaeon,muxserve",
    "-cn other --config-dir my_conf a=1",
    "--cfg job -p workload",
    "--cfg=job --resolve",
    "-i defaults",
    "-r ~local +a.b=[1,2] 'c={d:1}'",
    "experiment=kick -m",
    "--stored x --unknown",
]


@pytest.mark.parametrize("arguments", VERBATIM)
def test_all_arguments_reach_hydra(arguments, monkeypatch, aegaeon):
    seen = []
    monkeypatch.setattr(hydra_job, "run_hydra", lambda given: seen.append(list(given)) or 3)
    assert aegaeon("run", *arguments.split()).exit_code == 3
    assert seen == [arguments.split()]


@pytest.mark.parametrize(
    ("words", "incomplete", "found"),
    [
        ("run", "sys", ["system.", "system="]),
        ("run system =", "mu", ["muxserve", "muxserve_relaxed"]),
        ("run system", "", ["aegaeon", "muxserve", "sleep_mode"]),
        ("run -m", "system=mu", ["system=muxserve", "system=muxserve_relaxed"]),
        ("run models.count=2", "workload.r", ["workload.rate_rps="]),
        ("", "fig", ["figures"]),
    ],
)
def test_tab_completes_groups_choices_and_keys(words, incomplete, found):
    shell = BashComplete(cli, {}, "aegaeon", "_AEGAEON_COMPLETE")
    values = [item.value for item in shell.get_completions(words.split(), incomplete)]
    assert set(found) <= set(values)
    assert not [value for value in values if "base_" in value]


def test_a_signal_ends_reproduce_and_not_only_one_experiment(monkeypatch, tmp_path):
    started = []

    def job():
        started.append("one")
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(hydra_job, "_job", job)
    chosen = ["fig04", "fig11a"]
    assert stoppable(lambda: reproduce.reproduce(chosen, tmp_path)) == 128 + signal.SIGTERM
    assert started == ["one"]


def test_an_unknown_experiment_is_refused(aegaeon):
    done = aegaeon("reproduce", "fig99")
    assert (done.exit_code, done.stderr[:30]) == (2, "error: unknown experiment fig99"[:30])


def test_missing_files_of_the_artifact_are_named(aegaeon, tmp_path):
    done = aegaeon("validate", "--data", str(tmp_path))
    assert done.exit_code == 2
    assert "missing; give the folder with the artifact's files by --data" in done.stderr
