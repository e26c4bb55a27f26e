"""A list of users' mistakes. Each gives one sentence with the key, exit code 2, and no file."""

import shlex

import pytest

from aegaeon.paths import REFERENCE
from tests.support import quick_hydra

# The arguments of `aegaeon run`, and how the sentence starts.
RUNS = {
    # Keys that do not exist.
    "workload.rat=1": "workload.rat: there is no such key; did you mean workload.rate_rps?",
    "sytem=aegaeon": "sytem: there is no such key; did you mean system?",
    "system.quantum=3": "system.quantum: ",
    "+system.foo=1": "system.foo: ",
    "++system.foo=1": "system.foo: ",
    "+foo=1": "foo: ",
    "+a.b=1": "a: ",
    "+workload.x.y=1": "workload.x: ",
    "+models.types.qwen.layer=3": "models.types.qwen.layer: ",
    "+models.types.z.layers=3": "models.types.z.layers: ",
    "+hydra.foo=1": "hydra.foo: ",
    "+hydra.launcher.foo=1": "hydra.launcher.foo: ",
    "backend.checkpoints.x=/y": "backend.checkpoints: ",
    "backend=live 'backend.checkpoints={qwen2.5-7b: /x}'": "backend.checkpoints.qwen2.5-7b: a new",
    "~nothing": "~nothing: ",
    "~workload.rate_rps": "~workload.rate_rps: ",
    "+models.count=3": "+models.count: ",
    # Choices that do not exist.
    "system=aegaon": "system: there is no choice 'aegaon'; did you mean aegaeon?",
    "experiment=fig99": "experiment: there is no choice 'fig99'",
    "device@hardware.device=h1000": "device: there is no choice 'h1000'",
    "device@hardware.devic=h100": "device@hardware.devic: ",
    "model@models.types.qwen=qwen": "model: there is no choice 'qwen'",
    "system=null": "system=null: expected one choice",
    "experiment=[fig04,kick]": "experiment=[fig04,kick]: expected one choice",
    "hydra/launcher=submitit_slurm": "hydra/launcher: there is no choice",
    "hydra/sweeper=optuna": "hydra/sweeper: there is no choice",
    "-cn other": "--config-name: ",
    "--config-dir absent": "--config-dir: there is no folder absent",
    # Values of another type.
    "workload.rate_rps=fast": "workload.rate_rps: expected a number, got 'fast'",
    "workload.rate_rps=": "workload.rate_rps: expected a number",
    "workload.rate_rps=null": "workload.rate_rps: expected a value",
    "models.count=1e3": "models.count: expected a whole number, got '1000.0'",
    "models.count=true": "models.count: expected a whole number",
    "system.prefetch=maybe": "system.prefetch: expected true or false, got 'maybe'",
    "seeds=1": "seeds: expected a list",
    "seeds=[a]": "seeds[0]: expected a whole number",
    "keep=pool": "keep: expected a list",
    "name=[a]": "name: expected text",
    "models.types=null": "models.types: ",
    "models.shares={qwen:1.5}": "models.shares.qwen: expected a whole number",
    "models.count='${nope}'": "models.count: ",
    "paths.runs='${oc.env:NOPE_NOPE}'": "paths.runs: ",
    # Numbers out of range, or none.
    "workload.rate_rps=nan": "workload.rate_rps: must be a finite number",
    "workload.rate_rps=1e400": "workload.rate_rps: must be a finite number",
    "workload.rate_rps=-0.1": "workload.rate_rps: must be greater than 0",
    "workload.rate_rps=1e5": "workload.rate_rps: 2 models at 100000",
    "workload.duration_s=0": "workload.duration_s: ",
    "workload.duration_s=inf": "workload.duration_s: must be a finite number",
    "workload.duration_s=0.001": "workload.duration_s: no request arrives",
    "workload.input_scale=1e300": "workload.input_scale: ",
    "workload.burstiness=1e9": "workload.burstiness: ",
    "models.count=0": "models.count: ",
    "models.count=1000000": "models.count: must be at least 1 and at most 100,000, got 1000000",
    "models.count=99999999999999999999999999": "models.count: ",
    "models.shares.qwen=0": "models.shares.qwen: ",
    "models.shares={mistral:1}": "models.shares.mistral: a new entry",
    "models.types.qwen.layers=-1": "models.types.qwen.layers: ",
    "models.types.qwen.kv_heads=3": "models.types.qwen: ",
    "models.types.qwen.parameters=inf": "models.types.qwen.parameters: ",
    "hardware.gpus=0": "hardware.gpus: ",
    "hardware.gpus_per_node=0": "hardware.gpus_per_node: ",
    "hardware.device.usable_memory=5": "hardware.device.usable_memory: ",
    "hardware.device.pcie_efficiency=nan": "hardware.device.pcie_efficiency: ",
    "hardware.device.memory_bandwidth=1e-300": "hardware.device.memory_bandwidth: ",
    "slo.scale=0": "slo.scale: ",
    "slo.ttft_s=-1": "slo.ttft_s: ",
    "slo.tbt_s=nan": "slo.tbt_s: ",
    "backend.misprediction=-1": "backend.misprediction: ",
    "backend.misprediction=100": "backend.misprediction: ",
    "host_pool.sample_s=0": "host_pool.sample_s: ",
    "host_pool.pool_bytes=nan": "host_pool.pool_bytes: ",
    "host_pool.pool_bytes=1": "host_pool.pool_bytes: must hold a slab",
    "seeds=[-1]": "seeds: ",
    "seeds=[]": "seeds: ",
    "seeds=[0,0]": "seeds: ",
    "system.alpha_floor=7": "system.alpha_floor: must be greater than 0 and at most 1, got 7",
    "system.qmax_s=-1": "system.qmax_s: ",
    "system.qmax_s=inf": "system.qmax_s: ",
    "system.prefill=0": "system.prefill: ",
    "system.max_group=-3": "system.max_group: ",
    "system=muxserve system.kv_share=1.5": "system.kv_share: ",
    "system=muxserve system.max_models_per_gpu=0": "system.max_models_per_gpu: ",
    "system=serverlessllm system.drop_after_s=nan": "system.drop_after_s: ",
    "system=serverlessllm_paper system.max_batch=0": "system.max_batch: ",
    "system=sleep_mode system.switch=never": "system.switch: must be one of drain",
    "system=sleep_mode system.slice_share=0": "system.slice_share: ",
    "backend=occupancy backend.mean_service_s=0": "backend.mean_service_s: ",
    "backend=live backend.threads=0": "backend.threads: ",
    "backend=live backend.slabs=-1": "backend.slabs: ",
    "backend=live backend.stall_timeout_s=nan": "backend.stall_timeout_s: ",
    "backend=switch_cost backend.rounds=0": "backend.rounds: ",
    "workload.skew=steep": "workload.skew: must be one of uniform",
    # Combinations.
    "hardware.gpus=15": "system.prefill + system.decode: ",
    "system.pools=3": "system.pools: ",
    "keep=[nope]": "keep: 'nope' is unknown",
    "keep=[series]": "keep: this backend makes no table 'series'",
    "backend=live system=muxserve": "system: backend=live does not run models that share a device",
    "backend=live": "backend.checkpoints: ",
    "models.types.qwen.max_len=1": "models.types.qwen.max_len: ",
    "hardware=a10x4 system.prefill=2 system.decode=2": "models: ",
    # Names and places.
    "name=../evil": "name: ",
    "name=''": "name: ",
    "name=stored": "name: 'stored' is taken",
    "name=tables": "name: 'tables' is taken",
    "name=artifacts": "name: 'artifacts' is taken",
    "name=mlflow.db.old": "name: 'mlflow.db.old' is taken",
    "name=mlflow.lock": "name: 'mlflow.lock' is taken",
    "name=-x": "name: ",
    "name='a b'": "name: ",
    "system.name=''": "system.name: ",
    "paths.runs={file}/below": "paths.runs: ",
    "paths.runs={file}": "paths.runs: ",
    # Sweeps.
    "models.count=16,32": "models.count=16,32: several values are a sweep, which needs -m",
    "'models.count=range(1,4)'": "models.count=range(1,4): several values",
    "-m 'models.count=range(8,2)'": "models.count=range(8,2): there is no value in it",
    "-m 'system=glob(nothing*)'": "system=glob(nothing*): there is no value in it",
    "-m 'models.count=range(1,1000000000)'": "models.count=range(1,1000000000): there are more",
    "-m 'models.count=interval(1,4)'": "models.count=interval(1,4): an interval needs a sweeper",
    "-m 'slo.scale=range(1,999)' 'system.prefill=range(1,999)'": "slo.scale, system.prefill: ",
    "-m experiment=kick,fig04": "experiment: kick sweeps over",
    "-m hydra.launcher.n_jobs=0": "hydra.launcher.n_jobs: ",
    "-m hydra.launcher.n_jobs=-5": "hydra.launcher.n_jobs: ",
    "-m hydra.launcher.n_jobs=99999": "hydra.launcher.n_jobs: ",
    "-m hydra.sweeper.max_batch_size=0": "hydra.sweeper.max_batch_size: ",
    "hydra.mode=MULTIRUN": "hydra.mode: ",
    "hydra.job.chdir=true": "hydra.job.chdir: ",
    # What cannot be read at all.
    "models.count": "models.count: expected KEY=VALUE",
    "models.count = 16": "models.count: expected KEY=VALUE",
    "=3": "=3: expected KEY=VALUE",
    "'a=('": "a=(: cannot be read",
    "models.count=[1": "models.count=[1: cannot be read",
    # Options of Hydra's.
    "--foo": "unrecognized arguments: --foo",
    "--cfg everything": "argument --cfg/-c: ",
    "--cfg job -m": "--cfg: cannot be combined with --multirun",
    "--resolve": "--resolve: ",
    "--shell-completion install=bash": "--shell-completion: ",
    # Traces.
    "workload=azure": "workload.path: ",
    "workload=azure workload.path=absent.csv": "workload.path: absent.csv cannot be read",
    "workload=azure workload.path=.": "workload.path: ",
    "workload=azure workload.path={file}": "{file}",
    "workload=azure workload.path={once}": "workload.duration_s: the trace's 2 request(s) arrive",
    "workload=azure workload.path={once} workload.rate_scale=0": "workload.rate_scale: ",
    "workload=azure workload.path={once} workload.rate_scale=inf": "workload.rate_scale: ",
    "workload=azure workload.path={once} workload.assign=x": "workload.assign: must be one of",
    "workload=azure workload.path={once} workload.time_unit=x": (
        "workload.time_unit: must be one of '', s, ms"
    ),
    "workload=azure workload.path={once} workload.format=x": "workload.format: must be one of",
    "workload=azure workload.path={once} workload.duration_s=-1": "workload.duration_s: ",
    "workload=azure workload.path={once} workload.rate_rps=1": "workload.rate_rps: ",
    "workload=sharegpt workload.path={file}": "{file}, line 1: not valid JSON",
}
# The arguments of `aegaeon`, and what the sentence says.
OTHERS = {
    "rnu": "no such command 'rnu'",
    "results export nothing": "nothing: no finished run to export",
    "results export ../up": "up: no finished run to export",
    "results export fig11a --stored {reference}": "--stored: {reference} is the reference",
    "results export fig11a --reference --stored x": "--reference: writes to runs/stored, but",
    "results diff nothing --stored absent": "absent/nothing.parquet: no stored results",
    "results diff fig11a --rtol 7": "invalid value for '--rtol'",
    "results diff fig11a --rtol nan": "--rtol: must be a finite number",
    "claims --stored absent": "--stored: no folder absent",
    "reproduce fig99": "unknown experiment fig99",
    "profile fit none.csv": "none.csv cannot be read as CSV (No such file or directory)",
    "profile fit .": ". cannot be read as CSV (Is a directory)",
    "profile measure --repeats 0": "invalid value for '--repeats'",
    "profile measure workload.rat=1": "workload.rat: there is no such key",
    "profile measure hardware.gpus=0": "hardware.gpus: must be at least 1",
    "profile measure models.count=1,2": "models.count=1,2: several values",
    "workload lengths none.csv -o out.json": "none.csv",
    "validate --data absent": "missing; give the folder with the artifact's files by --data",
    "bench sim --nope": "no such option '--nope'",
}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Return the paths that mistakes name, in a working directory where nothing may be written."""
    quick_hydra.use(monkeypatch)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    once = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "2024-05-10 00:00:00,5,5\n" * 2
    (tmp_path / "once.csv").write_text(once)
    (tmp_path / "file").write_text("no trace")
    named = {"once": tmp_path / "once.csv", "file": tmp_path / "file", "runs": tmp_path / "runs"}
    yield {**named, "reference": REFERENCE}
    assert {path.name for path in tmp_path.rglob("*")} == {"home", "file", "once.csv"}


@pytest.mark.parametrize("mistake", RUNS)
def test_a_mistake_in_a_run_is_one_sentence_and_leaves_nothing(mistake, places, aegaeon):
    words = shlex.split(_filled(mistake, places))
    base = {"models.count": "2", "workload.duration_s": "60", "paths.runs": str(places["runs"])}
    base |= {"tracking.uri": "sqlite"}
    if "experiment=" in mistake or "workload=" in mistake or "trace" in mistake:
        del base["workload.duration_s"]
    given = {word.lstrip("+~").partition("=")[0] for word in words}
    words += [f"{key}={value}" for key, value in base.items() if key not in given]
    said = _sentence(aegaeon("run", *words))
    assert said.startswith(f"error: {_filled(RUNS[mistake], places)}")


@pytest.mark.parametrize("mistake", OTHERS)
def test_a_mistake_in_a_command_is_one_sentence_and_leaves_nothing(mistake, places, aegaeon):
    said = _sentence(aegaeon(*shlex.split(_filled(mistake, places))))
    assert _filled(OTHERS[mistake], places) in said


def _filled(text, places):
    for name, path in places.items():
        text = text.replace(f"{{{name}}}", str(path))
    return text


def _sentence(done):
    """Return the only line that a refused command says."""
    assert done.exit_code == 2, (done.output, done.exception)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    assert "Traceback" not in done.output
    assert "(object at 0x" not in lines[0]
    assert len(lines[0]) < 420, lines[0]
    return lines[0]
