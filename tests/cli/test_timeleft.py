"""The time left, against a clock that is set by hand: closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tileup.cli.timeleft import TimeLeft, in_words


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def draw(left: TimeLeft, clock: Clock, number: int, calls: int, seconds_a_call: float) -> None:
    left.begin(number)
    left.step(0, calls)
    for call in range(1, calls + 1):
        clock.now += seconds_a_call
        left.step(call, calls)


def test_nothing_is_said_before_there_is_something_to_measure(clock: Clock) -> None:
    left = TimeLeft(clock)
    assert left.seconds() is None
    left.begin(1)
    assert left.seconds() is None
    left.step(1, 100)
    assert left.seconds() is None, "one moment is no speed"
    clock.now += 1
    left.step(2, 100)
    assert left.seconds() is None, "one second is too short"
    clock.now += 1
    left.step(3, 100)
    assert left.seconds() == pytest.approx(97.0)


def test_one_picture_at_a_steady_pace(clock: Clock) -> None:
    left = TimeLeft(clock)
    left.begin(1)
    for call in range(1, 61):
        left.step(call, 60)
        if call > 5:
            assert left.seconds() == pytest.approx((60 - call) * 0.5)
        clock.now += 0.5
    assert left.seconds() == 0


def test_between_two_steps_it_counts_down_and_never_below_zero(clock: Clock) -> None:
    left = TimeLeft(clock)
    draw(left, clock, 1, 10, 3.0)
    left.begin(2)
    left.step(1, 5)
    before = left.seconds()
    assert before is not None
    clock.now += 2
    assert left.seconds() == pytest.approx(before - 2)
    clock.now += 1000
    assert left.seconds() == 0


def test_pictures_ahead_count_by_their_size(clock: Clock) -> None:
    """Windows in exact proportion to size and a steady pace: the estimate is the truth."""
    sizes = {1: 100.0, 2: 400.0, 3: 50.0, 4: 250.0}
    left = TimeLeft(clock)
    left.expect(sizes)
    for number, size in sizes.items():
        begun = clock.now
        draw(left, clock, number, int(size / 10), 0.7)
        ahead = sum(each for later, each in sizes.items() if later > number)
        assert left.seconds() == pytest.approx(ahead / 10 * 0.7)
        assert clock.now - begun == pytest.approx(size / 10 * 0.7)


def test_reading_and_writing_that_sampling_waits_for_are_in_the_speed(clock: Clock) -> None:
    """Each picture takes 10 windows of 1 s and then 5 s in which nothing is drawn."""
    left = TimeLeft(clock)
    left.expect(dict.fromkeys(range(1, 101), 1.0))
    for number in range(1, 51):
        draw(left, clock, number, 10, 1.0)
        clock.now += 5
    left.begin(51)
    left.step(0, 10)
    assert left.seconds() == pytest.approx(50 * 15, rel=0.01)


def test_a_machine_that_got_slower_shows(clock: Clock) -> None:
    left = TimeLeft(clock)
    left.begin(1)
    left.step(0, 10_000)
    for call in range(1, 1001):
        clock.now += 1
        left.step(call, 10_000)
    assert left.seconds() == pytest.approx(9000)
    for call in range(1001, 1501):
        clock.now += 4
        left.step(call, 10_000)
    assert left.seconds() == pytest.approx(8500 * 4, rel=0.01)


def test_while_sizes_are_being_read_nothing_is_said(clock: Clock) -> None:
    left = TimeLeft(clock)
    left.wait_for_sizes()
    draw(left, clock, 1, 10, 1.0)
    assert left.seconds() is None
    left.expect({1: 1.0, 2: 3.0})
    assert left.seconds() == pytest.approx(30), "what was drawn meanwhile counts"
    draw(left, clock, 2, 30, 1.0)
    assert left.seconds() == 0


def test_of_a_picture_of_unknown_size_nothing_follows_for_others(clock: Clock) -> None:
    left = TimeLeft(clock)
    left.expect({2: 1.0, 3: 2.0})
    draw(left, clock, 1, 1000, 1.0)
    assert left.seconds() is None
    draw(left, clock, 2, 10, 1.0)
    assert left.seconds() == pytest.approx(20)


def test_pictures_that_fail_or_are_not_there_cost_nothing(clock: Clock) -> None:
    left = TimeLeft(clock)
    left.expect({1: 1.0, 2: 1.0, 4: 1.0})
    draw(left, clock, 1, 10, 1.0)
    left.begin(2)  # and fails before its first window
    left.begin(3)  # of no known size
    assert left.seconds() == pytest.approx(10)


def test_a_picture_begun_anew_has_its_windows_ahead_again(clock: Clock) -> None:
    left = TimeLeft(clock)
    left.begin(1)
    for call in range(11):
        left.step(call, 20)
        clock.now += 1
    left.step(1, 40)  # with smaller windows
    assert left.seconds() == pytest.approx(39, rel=0.1)


def test_windows_of_an_earlier_run_tell_nothing_of_the_speed(clock: Clock) -> None:
    """A run that goes on passes over them in no time; what is left takes as long as ever."""
    left = TimeLeft(clock)
    left.begin(1)
    for call in range(1, 901):
        clock.now += 0.003
        left.step(call, 1000, known=call)
    assert left.seconds() is None
    for call in range(901, 911):
        clock.now += 10
        left.step(call, 1000, known=900)
    assert left.seconds() == pytest.approx(900, rel=0.05)
    left.begin(2)
    for call in range(1, 51):
        clock.now += 10
        left.step(call, 100)
    assert left.seconds() == pytest.approx(500, rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0, "a few seconds left"),
        (44, "about 45 s left"),
        (100, "about 2 min left"),
        (3600, "about 60 min left"),
        (4 * 3600 + 900, "about 4.2 h left"),
        (40 * 3600, "about 40 h left"),
    ],
)
def test_words(seconds: float | None, words: str) -> None:
    assert in_words(seconds) == words
