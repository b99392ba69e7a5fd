"""How long a grid's trainings will still take."""

from skipln_fairseq.compare.pace import Pace


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_before_the_first_has_ended_nothing_is_said_of_the_time():
    pace = Pace(4, 2)
    assert str(pace) == "0/4 trained"
    pace.begin("a")
    assert (pace.left(), str(pace)) == (None, "0/4 trained")


def when_the_first_ends(trainings):
    """Two places; both began at 0, and one training has ended after 600 seconds."""
    pace = Pace(trainings, 2, clock := Clock())
    pace.begin("a")
    pace.begin("b")
    clock.now = 600
    pace.end("a")
    return pace, clock


def test_those_that_run_are_partly_done_and_share_the_places():
    pace, clock = when_the_first_ends(5)
    # b has lasted as long as a and is about to end: of three that wait, one place does two
    assert pace.left() == 2 * 600
    pace.begin("c")
    clock.now = 900
    pace.end("b")
    # the mean is 750; c has run 300 of it, and two others wait: the second begins when c has ended
    assert pace.left() == (750 - 300) + 750
    assert str(pace) == "2/5 trained, 20 min left"


def test_the_last_one_has_the_rest_of_its_time():
    pace = Pace(2, 2, clock := Clock())
    pace.begin("a")
    clock.now = 7200
    pace.end("a")
    pace.begin("b")
    clock.now += 3600
    assert str(pace) == "1/2 trained, 1 h 00 min left"
    clock.now += 9999
    assert str(pace) == "1/2 trained, 0 min left"
    pace.end("b")
    assert str(pace) == "2/2 trained, 0 min left"


def test_the_last_one_may_just_have_begun():
    pace, _ = when_the_first_ends(3)
    pace.begin("c")
    assert pace.left() == 600


def test_without_trainings_nothing_is_said():
    assert str(Pace(0, 2)) == ""
