"""MuxServe's ADBS and its KV quotas: turns, quotas that are kept, adapted and never starve."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegaeon.core import Decode, Idle, Outcome, Prefill, Request
from baselines.muxserve.adbs import PREFILL_SHARE, PREFILL_TOKEN_BUDGET, Adbs
from baselines.muxserve.quotas import ADAPT_S, KvQuotas

MEAN_OUTPUT = 100.0


def unit(models: str = "abc", kv_tokens: float = 1e6) -> Adbs:
    quotas = KvQuotas(kv_tokens, dict.fromkeys(models, 1.0), True)
    return Adbs(dict.fromkeys(models, 1), quotas, MEAN_OUTPUT)


def all_work(adbs: Adbs, now: float = 0.0) -> list[Prefill | Decode]:
    work = []
    while not isinstance(item := adbs.next_work(now), Idle):
        work.append(item)
    return work


def add(adbs: Adbs, ident: int, model: str, tokens: int = 100) -> Request:
    request = Request(ident, model, 0.0, tokens)
    adbs.add(request, 0.0)
    return request


def done(adbs: Adbs, work: Prefill | Decode, **outcome) -> None:
    adbs.record(work, Outcome(0.0, 0.0, 1, **outcome), 0.0)


def test_prefills_take_turns_among_models():
    adbs = unit()
    for i in range(9):
        add(adbs, i, "abc"[i // 3], PREFILL_TOKEN_BUDGET)
    order = []
    for _ in range(9):
        prefill = next(w for w in all_work(adbs) if isinstance(w, Prefill))
        order.append(prefill.model)
        done(adbs, prefill, finished=prefill.requests)
    assert order == list("abcabcabc")


def test_a_prefill_batches_prompts_of_one_model_up_to_the_token_budget():
    adbs = unit()
    half = PREFILL_TOKEN_BUDGET // 2
    for i, model in enumerate("aabaa"):
        add(adbs, i, model, half)
    (prefill,) = all_work(adbs)
    assert [r.id for r in prefill.requests] == [0, 1]


def test_one_prefill_runs_beside_decodes_that_share_what_it_leaves():
    adbs = unit()
    for i, model in enumerate("ab"):
        add(adbs, i, model)
    (prefill,) = all_work(adbs)
    done(adbs, prefill)
    prefill, decode = all_work(adbs)
    assert (prefill.share, decode.share) == (PREFILL_SHARE, pytest.approx(1 - PREFILL_SHARE))
    done(adbs, prefill)
    done(adbs, decode)
    both = all_work(adbs)
    assert [(w.model, w.share) for w in both] == [("a", 0.5), ("b", 0.5)]
    add(adbs, 2, "c")
    assert all_work(adbs) == []
    for work in both:
        done(adbs, work)
    prefill, *beside = all_work(adbs)
    assert (prefill.model, prefill.share) == ("c", PREFILL_SHARE)
    assert [w.share for w in beside] == pytest.approx([0.2, 0.2])
    add(adbs, 3, "a")
    assert all_work(adbs) == []


def test_a_waiting_prompt_asks_for_room_unless_a_prefill_runs():
    adbs = unit()
    assert adbs.add(Request(0, "a", 0.0, 10), 0.0)
    assert all_work(adbs)
    assert not adbs.add(Request(1, "a", 0.0, 10), 0.0)


def test_a_model_beyond_its_quota_waits_and_others_do_not():
    adbs = unit("ab", kv_tokens=1000)
    first = [add(adbs, i, "a", 100) for i in range(4)]
    other = add(adbs, 9, "b", 100)
    (prefill,) = all_work(adbs)
    assert list(prefill.requests) == first[:2]
    done(adbs, prefill)
    prefill = all_work(adbs)[0]
    assert prefill.requests == (other,)


def test_requests_that_lost_their_kv_come_first_once_something_has_finished():
    adbs = unit("a")
    requests = [add(adbs, i, "a") for i in range(3)]
    (prefill,) = all_work(adbs)
    done(adbs, prefill)
    (decode,) = all_work(adbs)
    late = add(adbs, 3, "a")
    done(adbs, decode, skipped=(requests[2], requests[1]))
    (decode,) = all_work(adbs)
    assert decode.requests == (requests[0],)
    done(adbs, decode, finished=(requests[0],))
    (prefill,) = all_work(adbs)
    assert prefill.requests == (requests[1], requests[2], late)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(1.0, 2000.0), st.booleans()), max_size=60)
)
def test_quotas_always_add_up_to_the_units_kv(steps):
    quotas = KvQuotas(1000.0, {"a": 1.0, "b": 3.0, "c": 0.0}, True)
    held: list[tuple[str, float]] = []
    for i, (model, size, leave) in enumerate(steps):
        if leave and held:
            quotas.release(*held.pop(0), float(i))
        elif quotas.admits(model, size):
            quotas.reserve(model, size, float(i))
            held.append((model, size))
        quotas.adapt(dict.fromkeys("abc", 1), float(i))
        assert sum(quotas.of(m) for m in "abc") == pytest.approx(1000.0)
        assert min(quotas.of(m) for m in "abc") >= -1e-6


def test_quotas_start_in_proportion_to_load():
    quotas = KvQuotas(1000.0, {"a": 1.0, "b": 3.0}, True)
    assert (quotas.of("a"), quotas.of("b")) == (250.0, 750.0)


def test_a_busy_model_gains_a_tenth_of_its_quota_from_an_idle_one():
    quotas = KvQuotas(1000.0, {"a": 1.0, "b": 1.0}, True)
    quotas.reserve("a", 490.0, 0.0)
    quotas.adapt({"a": 1, "b": 0}, ADAPT_S / 2)
    assert quotas.of("a") == 500.0
    quotas.adapt({"a": 1, "b": 0}, ADAPT_S)
    assert quotas.of("a") == pytest.approx(550.0)
    quotas.adapt({"a": 0, "b": 0}, 2 * ADAPT_S)
    assert quotas.of("a") == pytest.approx(550.0)


def test_fixed_quotas_never_adapt():
    quotas = KvQuotas(1000.0, {"a": 1.0, "b": 1.0}, False)
    quotas.reserve("a", 490.0, 0.0)
    quotas.adapt({"a": 1, "b": 0}, 10 * ADAPT_S)
    assert quotas.of("a") == 500.0


def test_a_request_larger_than_its_models_quota_is_admitted_alone():
    quotas = KvQuotas(1000.0, {"a": 1.0, "b": 1.0}, True)
    quotas.reserve("a", 900.0, 0.0)
    assert quotas.of("a") == pytest.approx(900.0)
    assert not quotas.admits("a", 50.0)
    quotas.release("a", 900.0, 1.0)
    assert quotas.admits("a", 5000.0)
