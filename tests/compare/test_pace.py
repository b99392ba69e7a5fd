"""How long a grid's trainings will still take."""

from skipln_fairseq.compare.pace import Pace


class Trainings:
    """So many that have yet to begin, at two places, while a test lets seconds pass."""

    def __init__(self, waiting):
        self.waiting, self.now = waiting, 0.0
        self.pace = Pace(lambda: self.waiting, 2, lambda: self.now)
        self.end, self.left = self.pace.end, self.pace.left

    def begin(self, name, **how):
        self.waiting -= 1
        self.pace.begin(name, **how)

    def __str__(self):
        return str(self.pace)


def test_before_the_first_has_ended_nothing_is_said_of_the_time():
    trainings = Trainings(4)
    assert str(trainings) == "0/4 trained"
    trainings.begin("a")
    assert (trainings.left(), str(trainings)) == (None, "0/4 trained")


def when_the_first_ends(waiting):
    """Both began at 0, and one training has ended after 600 seconds."""
    trainings = Trainings(waiting)
    trainings.begin("a")
    trainings.begin("b")
    trainings.now = 600
    trainings.end("a")
    return trainings


def test_those_that_run_are_partly_done_and_share_the_places():
    trainings = when_the_first_ends(5)
    # b has lasted as long as a and is about to end: of three that wait, one place does two
    assert trainings.left() == 2 * 600
    trainings.begin("c")
    trainings.now = 900
    trainings.end("b")
    # the mean is 750; c has run 300 of it, and two others wait: the second begins when c has ended
    assert trainings.left() == (750 - 300) + 750
    assert str(trainings) == "2/5 trained, 20 min left"


def test_the_last_one_has_the_rest_of_its_time():
    trainings = Trainings(2)
    trainings.begin("a")
    trainings.now = 7200
    trainings.end("a")
    trainings.begin("b")
    trainings.now += 3600
    assert str(trainings) == "1/2 trained, 1 h 00 min left"
    trainings.now += 9999
    assert str(trainings) == "1/2 trained, 0 min left"
    trainings.end("b")
    assert str(trainings) == "2/2 trained, 0 min left"


def test_the_last_one_may_just_have_begun():
    trainings = when_the_first_ends(3)
    trainings.begin("c")
    assert trainings.left() == 600


def test_what_turns_out_to_be_there_is_not_waited_for():
    """As when a variant chooses a value with which its other seeds are trained."""
    trainings = when_the_first_ends(6)
    trainings.waiting -= 3
    assert str(trainings) == "1/3 trained, 10 min left"


def test_the_rest_of_a_training_says_nothing_of_a_whole_one():
    trainings = Trainings(4)
    trainings.begin("a", going_on=True)
    trainings.begin("b")
    trainings.now = 60
    trainings.end("a")
    assert str(trainings) == "1/4 trained"
    trainings.now = 600
    trainings.end("b")
    assert str(trainings) == "2/4 trained, 10 min left"


def test_without_trainings_nothing_is_said():
    assert str(Trainings(0)) == ""
