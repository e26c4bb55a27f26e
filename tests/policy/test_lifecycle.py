"""A request is at one place at any time, whatever dispatcher and backend do in which order."""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegaeon.core import DeviceSpec, InstanceSpec, Request, Stage
from aegaeon.policy.interface import Placement, Refusal
from aegaeon.policy.lifecycle import GONE, HELD, ConservationError, Lifecycle

DEVICE = DeviceSpec("d", 1e9, 1e9, 1e9, 1e9)
SPLIT = tuple(
    InstanceSpec(i, stage, DEVICE, 1e6, 1e9)
    for i, stage in enumerate((Stage.PREFILL, Stage.DECODE))
)
FULL = (InstanceSpec(0, Stage.FULL, DEVICE, 1e6, 1e9),)


@dataclass
class Track:
    request: Request
    place: int = HELD


@dataclass
class Told:
    """A delivery that notes what it is told."""

    said: list = field(default_factory=list)

    def send(self, track, instance, now):
        self.said.append(("send", track.request.id, instance))

    def hold(self, track, now):
        self.said.append(("hold", track.request.id))

    def refuse(self, track, reason, now):
        self.said.append(("refuse", track.request.id, reason))


@dataclass
class Scripted:
    """A dispatcher whose answers come from a script; held requests go when others leave."""

    answers: list
    held: list = field(default_factory=list)
    heard: list = field(default_factory=list)

    def place(self, request, stage, now):
        at = 1 if stage is Stage.DECODE else 0
        answer = self.answers.pop(0) if self.answers else "go"
        if answer == "hold":
            self.held.append((request, at))
            return None
        return Refusal("no") if answer == "refuse" else at

    def finished(self, request, stage, instance, now):
        self.heard.append((request.id, stage, instance))
        return self._release()

    def available(self, instance, up, now):
        self.heard.append((instance, up))
        return self._release()

    def _release(self):
        released, self.held = self.held[:1], self.held[1:]
        return [Placement(request, at) for request, at in released]


def life(fleet=SPLIT, answers=()):
    dispatcher, told = Scripted(list(answers)), Told()
    return Lifecycle(dispatcher, fleet, told), dispatcher, told.said


def track(ident):
    return Track(Request(ident, "m", 0.0, 4))


def test_a_request_goes_from_prefill_to_decoding_and_leaves():
    lives, dispatcher, said = life()
    one = track(0)
    lives.arrive(one, 0.0)
    lives.prefilled(one, 0, 1.0)
    lives.leave(one, 1, 2.0)
    assert said == [("send", 0, 0), ("send", 0, 1)]
    assert dispatcher.heard == [(0, Stage.PREFILL, 0), (0, Stage.DECODE, 1)]
    assert (one.place, lives.tracks) == (GONE, {})


def test_held_requests_go_when_another_leaves():
    lives, _, said = life(FULL, ["go", "hold"])
    first, second = track(0), track(1)
    lives.arrive(first, 0.0)
    lives.arrive(second, 0.0)
    lives.leave(first, 0, 1.0)
    assert said == [("send", 0, 0), ("hold", 1), ("send", 1, 0)]
    assert list(lives.tracks) == [1]


def test_a_dispatcher_cannot_place_what_is_gone():
    lives, dispatcher, _ = life(FULL)
    one = track(0)
    lives.arrive(one, 0.0)
    dispatcher.held.append((one.request, 0))
    with pytest.raises(ConservationError, match="request 0 is placed and gone"):
        lives.leave(one, 0, 1.0)


def test_a_refused_request_is_gone():
    lives, _, said = life(FULL, ["refuse"])
    lives.arrive(track(0), 0.0)
    assert (said, lives.tracks) == ([("refuse", 0, "no")], {})


def test_requests_of_a_dead_instance_wait_until_they_are_resumed():
    lives, dispatcher, said = life()
    one, two = track(0), track(1)
    for each in (one, two):
        lives.arrive(each, 0.0)
        lives.prefilled(each, 0, 1.0)
    lives.lose([one, two], 1, 2.0)
    assert (one.place, two.place) == (HELD, HELD)
    assert dispatcher.heard[2:] == [(1, False), (0, Stage.DECODE, 1), (1, Stage.DECODE, 1)]
    lives.resume(one, 3.0)
    lives.give_up(two)
    assert said[-1] == ("send", 0, 0)
    assert list(lives.tracks) == [0]


@pytest.mark.parametrize("step", ["prefilled", "leave", "give_up"])
def test_a_request_cannot_leave_where_it_is_not(step):
    lives, _, _ = life()
    one = track(0)
    lives.arrive(one, 0.0)
    with pytest.raises(ConservationError, match="request 0 is at 0, not at"):
        lives.give_up(one) if step == "give_up" else getattr(lives, step)(one, 1, 1.0)


ANSWERS = st.lists(st.sampled_from(["go", "go", "hold", "refuse"]), max_size=40)


@given(st.integers(1, 12), ANSWERS, st.integers(0, 1 << 16))
def test_no_request_is_lost_or_doubled(count, answers, seed):
    rng = random.Random(seed)
    lives, dispatcher, said = life(SPLIT, answers)
    everyone = [track(i) for i in range(count)]
    for each in everyone:
        lives.arrive(each, 0.0)
    while lives.tracks:
        there = [t for t in lives.tracks.values() if t.place != HELD]
        if not there:
            # Only a departure releases what is held: an instance that comes back does it here.
            lives.available(rng.choice([0, 1]), True, 1.0)
            continue
        one = rng.choice(there)
        if one.place == 0 and rng.random() < 0.7:
            lives.prefilled(one, 0, 1.0)
        elif rng.random() < 0.1:
            at = one.place
            lost = [t for t in there if t.place == at]
            lives.lose(lost, at, 1.0)
            for each in lost:
                lives.resume(each, 2.0)
        else:
            lives.leave(one, one.place, 1.0)
    assert all(each.place == GONE for each in everyone)
    sent = Counter((what[1], what[2]) for what in said if what[0] == "send")
    left = Counter((what[0], what[2]) for what in dispatcher.heard if len(what) == 3)
    assert sent == left
