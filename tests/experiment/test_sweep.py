"""What arguments of `aegaeon run` sweep over, as the composed configuration says."""

import pytest

from aegaeon.errors import UserError
from aegaeon.experiment import hydra_job
from aegaeon.experiment.hydra_options import parsed
from aegaeon.experiment.reproduce import EXPERIMENTS
from aegaeon.experiment.sweep import requested, swept_by
from aegaeon.paths import CONF

SYSTEMS = ["aegaeon", "serverlessllm", "serverlessllm_plus", "muxserve"]


def found(*arguments):
    return requested(parsed(arguments))


def test_an_experiment_sweeps_over_its_own_parameters():
    sweep = found("experiment=kick")
    assert sweep.values == {"system": SYSTEMS, "models.count": ["16", "48", "80"]}
    assert (sweep.own, sweep.runs) == (("system", "models.count"), 12)
    assert sweep.notice() == (
        "kick sweeps over system, models.count: running it as a sweep of 12 runs, as with -m. "
        "One value for each, as in system=aegaeon models.count=16, runs a single point."
    )


def test_a_value_takes_the_place_of_the_experiments():
    sweep = found("experiment=fig11a", "system=muxserve")
    assert (sweep.own, sweep.runs) == (("models.count",), 17 * 3)
    sweep = found("experiment=kick", "system=aegaeon,muxserve", "seeds=[0,1]")
    assert (sweep.own, sweep.runs) == (("system", "models.count"), 2 * 3 * 2)
    sweep = found("experiment=kick", "system=aegaeon,muxserve", "models.count=16")
    assert (sweep.own, sweep.runs) == (("system",), 2)


def test_values_for_all_leave_a_single_point():
    assert found("experiment=kick", "system=aegaeon", "models.count=16").own == ()
    assert found("system=aegaeon").own == ()
    assert found("experiment=fig04").own == ()


def test_a_sweep_of_ones_own_is_counted():
    sweep = found("-m", "system=glob(sleep_mode*)", "models.count=range(16,81,16)")
    assert (sweep.own, sweep.runs) == ((), 4 * 5)


def test_an_added_folder_of_experiments_is_read(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nname: lab\nhydra: {sweeper: {params: {slo.scale: '0.5,1'}}}\n"
    (tmp_path / "experiment" / "lab.yaml").write_text(text)
    assert found("--config-dir", str(tmp_path), "experiment=lab").own == ("slo.scale",)


@pytest.mark.parametrize("option", ["--config-dir {}", "hydra.searchpath=[file://{}]"])
@pytest.mark.parametrize("name", ["device/h800.yaml", "config.yaml"])
def test_a_file_that_a_shipped_one_hides_is_refused(option, name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("memory_bytes: 1\n")
    with pytest.raises(UserError, match=rf"{name} would not be read.*another name"):
        found(*option.format(tmp_path).split(), "models.count=2")


@pytest.mark.parametrize("wrong", ["experiment=fig99", "sytem=x", "a=(", "hydra.nothing=1"])
def test_what_cannot_be_composed_is_refused(wrong):
    with pytest.raises(UserError, match=r"^(experiment|sytem|a=\(|hydra.nothing): "):
        found("-m", wrong)


def test_a_sweep_over_sweeps_is_refused():
    with pytest.raises(UserError, match=r"kick sweeps over system, models\.count.*one experiment"):
        found("-m", "experiment=kick,fig04")
    assert found("-m", "experiment=fig04,live_kick").own == ()
    assert found("-m", "experiment=kick,fig11a", "system=aegaeon", "models.count=16").own == ()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_sweep_parameter_of_an_experiment_can_be_parsed(name):
    text = (CONF / "experiment" / f"{name}.yaml").read_text()
    assert bool(swept_by(name)) == ("sweeper:" in text)
    assert all(swept_by(name).values())


@pytest.mark.parametrize(
    ("arguments", "many"),
    [
        ("experiment=kick", True),
        ("-m experiment=kick", True),
        ("experiment=kick system=aegaeon", True),
        ("experiment=kick system=aegaeon models.count=16", False),
        ("--run experiment=kick", False),
        ("-m system=aegaeon,muxserve", True),
        ("system=aegaeon", False),
    ],
)
def test_a_sweep_runs_as_such_and_says_so(arguments, many, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(hydra_job, "_job", lambda: seen.append(hydra_job.sys.argv))
    monkeypatch.setattr(hydra_job.summary, "close", lambda notes, many, console: int(many))
    before = hydra_job.sys.argv
    assert hydra_job.run_hydra(arguments.split()) == many
    ((program, *given),) = seen
    assert program == "aegaeon run"
    assert bool({"-m", "--multirun"} & set(given)) == many
    assert [text for text in given if text != "--multirun"] == arguments.split()
    assert ("sweeps over" in capsys.readouterr().err) == (many and "experiment" in arguments)
    assert hydra_job.sys.argv is before


@pytest.mark.parametrize("shown", ["--cfg job", "--help", "--info all", "--hydra-help"])
def test_questions_to_hydra_are_no_sweep(shown, monkeypatch):
    seen = []
    monkeypatch.setattr(hydra_job, "_job", lambda: seen.append(hydra_job.sys.argv[1:]))
    assert hydra_job.run_hydra(["experiment=kick", *shown.split()]) == 0
    assert seen == [["experiment=kick", *shown.split()]]
