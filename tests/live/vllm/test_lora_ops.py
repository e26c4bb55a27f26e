"""vLLM's LoRA operations on a CPU: corrected by a call, not by an import, and in every rank."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")
pytestmark = pytest.mark.live

PROBE = """
import aegaeon.live.vllm.model_engine, aegaeon.live.tp.rank_process
from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu
for module in (lora_ops, punica_cpu):
    print(module.bgmv_shrink.__module__, module.bgmv_expand.__module__)
"""
OWN = "vllm.lora.ops.torch_ops.lora_ops"


def test_importing_our_modules_changes_nothing_in_vllm():
    command = [sys.executable, "-c", PROBE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [OWN] * 4


def test_tokens_without_adapter_are_left_as_they_are():
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    from aegaeon.live.vllm.lora_ops import leave_tokens_without_adapter

    leave_tokens_without_adapter()
    corrected = lora_ops.bgmv_expand
    leave_tokens_without_adapter()
    assert lora_ops.bgmv_expand is punica_cpu.bgmv_expand is corrected
    weights = torch.ones(2, 1, 3, 4)
    output = torch.zeros(3, 3)
    lora_ops.bgmv_expand(torch.ones(3, 4), weights, output, torch.tensor([0, -1, 1]))
    assert output.tolist() == [[4.0] * 3, [0.0] * 3, [4.0] * 3]


@pytest.mark.parametrize(("lora", "calls"), [(None, 0), (object(), 1)])
def test_a_rank_corrects_them_before_it_makes_a_worker_with_adapters(lora, calls, monkeypatch):
    from aegaeon.live.vllm import executor

    made = []

    def refuse(**_):
        raise RuntimeError("no worker")

    monkeypatch.setattr(executor, "leave_tokens_without_adapter", lambda: made.append(1))
    monkeypatch.setattr(executor, "WorkerWrapperBase", refuse)
    for rank in (0, 1):
        with pytest.raises(RuntimeError, match="no worker"):
            executor.make_worker(SimpleNamespace(lora_config=lora), "file:///nowhere", rank)
    assert len(made) == 2 * calls
