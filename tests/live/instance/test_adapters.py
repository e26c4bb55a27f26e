"""A request with a LoRA adapter goes through instances with it, and is refused where it cannot."""

from dataclasses import replace

import pytest

from aegaeon.core import Decode, Prefill, Stage
from aegaeon.live.events import Adapter, Failed, Prefilled
from aegaeon.live.tiny import tiny_options
from tests.support.tiny_node import ZOO, TinyAdapter

pytest.importorskip("vllm")
pytestmark = pytest.mark.live

LONG = 1e9
LORA = {"enable_lora": True, "max_loras": 2, "max_lora_rank": 8}


@pytest.fixture(scope="module")
def pair(node, machines, models):
    """Two devices whose only model takes adapters."""
    from aegaeon.live.vllm.model_engine import ModelEngine

    options = replace(tiny_options(ZOO[0]), extra=LORA)
    made = []
    for machine in machines:
        pool = node.pool()
        engine = ModelEngine("qwen-a", models / "qwen-a", pool, options)
        made.append(replace(machine, pool=pool, engines={"qwen-a": engine}))
    yield made
    for machine in made:
        machine.engines["qwen-a"].close()


@pytest.fixture(scope="module")
def adapters(models):
    return [TinyAdapter(f"live-{i}", seed=i).build(ZOO[0], models) for i in range(3)]


def alone(machine, request):
    """Return what the request's model and adapter give when nothing else runs."""
    engine = machine.engines["qwen-a"]
    machine.pool.activate("qwen-a")
    engine.add("alone", request.prompt, request.params, adapter=request.adapter)
    tokens = []
    while engine.requests:
        tokens += [t for o in engine.step().outputs for t in o.token_ids]
    return tokens


def test_an_adapter_goes_with_its_request(pair, adapters, script, events, make, node):
    requests = [replace(make(1), adapter=adapter) for adapter in (*adapters, None)]
    requests = [
        replace(request, spec=replace(request.spec, id=at)) for at, request in enumerate(requests)
    ]
    expected = [alone(pair[0], request) for request in requests]
    assert len({tuple(tokens) for tokens in expected}) == 4
    specs = tuple([request.spec for request in requests])
    # One more adapter than slots: whose turn it is not is reported as skipped, and comes later.
    script.works = [Prefill("qwen-a", specs)]
    instance = pair[0].instance(script, events.extend, stage=Stage.PREFILL)
    for request in requests:
        instance.accept(request)
    instance.run_next()
    moved = [event.request for event in events.of(Prefilled)]
    assert sorted([live.spec.id for live in moved]) == [0, 1, 2, 3]
    assert {live.spec.id: live.adapter for live in moved} == dict(enumerate([*adapters, None]))
    decoding = pair[1].instance(script, events.extend, stage=Stage.DECODE)
    for live in moved:
        decoding.accept(live)
    left, outcomes = list(specs), len(script.outcomes)
    while left:
        script.works = [Decode("qwen-a", tuple(left), LONG)]
        decoding.run_next()
        left = [spec for spec in left if spec not in script.outcomes[-1][1].finished]
    assert any(outcome.skipped for _, outcome in script.outcomes[outcomes:])
    assert [events.tokens(at) for at in range(4)] == expected
    assert all(use.used == 0 for use in node.host_kv.stats().values())


def test_a_request_whose_adapter_is_refused_fails_alone(
    pair, machine, adapters, script, events, make, node
):
    first = pair[0].instance(script, events.extend, stage=Stage.PREFILL)
    request = replace(make(7), adapter=adapters[0])
    script.works = [Prefill("qwen-a", (request.spec,))]
    first.accept(request)
    first.accept(replace(make(8), adapter=Adapter("gone", "nowhere")))
    first.run_next()
    (moved,) = events.of(Prefilled)
    # This one's engines take no adapters.
    other = machine.instance(script, events.extend, stage=Stage.DECODE)
    other.accept(moved.request)
    other.run_next()
    reasons = {event.request: event.reason for event in events.of(Failed)}
    assert "nowhere holds no adapter_config.json" in reasons[8]
    assert "the model's engine takes none" in reasons[7]
    assert all(use.used == 0 for use in node.host_kv.stats().values())
