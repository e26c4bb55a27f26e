"""Engines of tiny models on one small device, and vLLM itself as the reference."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from aegaeon.live.tiny import GREEDY, TinyModel
from tests.support.tiny_node import ZOO

# Spinning worker threads make tiny steps many times slower on a shared machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def node() -> Iterator[Any]:
    pytest.importorskip("vllm")
    from tests.support.tiny_node import TinyNode

    made = TinyNode()
    yield made
    made.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def zoo(node, models) -> Mapping[str, Any]:
    """Engines of all tiny models on a device whose KV arena holds about one model's requests."""
    return node.engines(node.pool(), models)


@pytest.fixture
def pool(zoo) -> Any:
    return next(iter(zoo.values()))._lease.pool


class Reference:
    """vLLM's own engine, one request at a time: what each model does alone.

    In 16 bits kernels round differently, which may decide a token: unless it is to be left
    `untouched`, it has an engine's.
    """

    def __init__(self, folder: Path, models: Sequence[TinyModel], untouched: bool = False) -> None:
        self._folder = folder
        self._models = {model.name: model for model in models}
        self._untouched = untouched
        self._engines: dict[str, Any] = {}
        self._adapters: dict[str, int] = {}

    def run(
        self, name: str, prompt: list[int], params: Mapping[str, Any], adapter: Any = None
    ) -> Any:
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

        engine = self._engines.get(name) or self._make(name)
        values = {"detokenize": True, **params}
        if "structured_outputs" in values:
            values["structured_outputs"] = StructuredOutputsParams(**values["structured_outputs"])
        values["output_kind"] = RequestOutputKind.FINAL_ONLY
        lora = None
        if adapter is not None:
            number = self._adapters.setdefault(adapter.path, len(self._adapters) + 1)
            lora = LoRARequest(adapter.path, number, adapter.path)
        given = {"prompt_token_ids": prompt}
        engine.add_request("r", given, SamplingParams(**values), lora_request=lora)
        while True:
            for output in engine.step():
                if output.finished:
                    return output

    def tokens(
        self,
        name: str,
        prompt: list[int],
        params: Mapping[str, Any] = GREEDY,
        adapter: Any = None,
    ) -> list[int]:
        return list(self.run(name, prompt, params, adapter).outputs[0].token_ids)

    def _make(self, name: str) -> Any:
        from aegaeon.live.tiny import tiny_options

        return self.make(name, self._folder / name, tiny_options(self._models[name]))

    def make(self, name: str, path: Path, options: Any) -> Any:
        """Make the engine that `name` stands for from now on."""
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        from aegaeon.live.vllm.gemm import packed_gemm, plain_gemm, weight_form

        arguments = EngineArgs(
            model=str(path),
            dtype=options.dtype,
            max_model_len=options.max_model_len,
            block_size=options.block_size,
            enforce_eager=True,
            enable_prefix_caching=False,
            async_scheduling=False,
            kv_cache_memory_bytes=1 << 20,
            disable_log_stats=True,
            **options.extra,
        )
        own = self._untouched or options.dtype == "float32"
        packed = weight_form(arguments.create_engine_config())
        with nullcontext() if own else packed_gemm() if packed else plain_gemm():
            engine = LLMEngine.from_engine_args(arguments)
        engine.engine_core._finalizer.detach()
        self._engines[name] = engine
        return engine


@pytest.fixture(scope="session")
def reference_of() -> type[Reference]:
    return Reference


@pytest.fixture(scope="session")
def reference(zoo, models) -> Reference:
    return Reference(models, ZOO)


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Count how often vLLM reads a checkpoint's weights."""
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    counted: list[str] = []
    load = DefaultModelLoader.load_weights

    def count(self: Any, model: Any, config: Any) -> Any:
        counted.append(config.model)
        return load(self, model, config)

    monkeypatch.setattr(DefaultModelLoader, "load_weights", count)
    return counted
