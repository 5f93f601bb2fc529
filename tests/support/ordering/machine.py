"""What a source, a target, time, an administrator and a power cut do to a pipeline, at random."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Mapping

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.histories import NUMBERS
from tests.support.ordering.life import Life
from tests.support.ordering.source import Habits
from tests.support.ordering.stage import Stage
from tests.support.ordering.traps import POINTS

Draws = st.randoms(use_true_random=False)
Few = st.integers(1, 4)
Passes = st.integers(0, 2)
Pick = st.integers(0, 9)
Picks = st.sets(Pick, min_size=1, max_size=4)

in_trouble = precondition(lambda self: self.life is not None and self.life.parked())


class OrderMachine(RuleBasedStateMachine):
    """``stages``: by whether rows are deleted softly. ``tally``: what it all came to."""

    def __init__(self, stages: Mapping[bool, Stage], tally: Counter[str]) -> None:
        super().__init__()
        self.stages = stages
        self.tally = tally
        self.life: Life | None = None

    @initialize(
        soft=st.booleans(),
        habits=st.builds(Habits, swaps=st.booleans(), late=st.booleans(), partial=st.booleans()),
    )
    def begin(self, soft: bool, habits: Habits) -> None:
        self.life = Life(self.stages[soft], habits, self.tally)

    @property
    def lived(self) -> Life:
        assert self.life is not None
        return self.life

    @invariant()
    def nothing_was_overtaken(self) -> None:
        if self.life is not None:
            self.life.check()

    def teardown(self) -> None:
        if self.life is None:
            return
        try:
            if sys.exc_info()[0] is None:
                self.life.settle()
        finally:
            self.life.session.end()

    # --- source, target, stream -------------------------------------------------------------------

    @rule(draw=Draws)
    def commit(self, draw: random.Random) -> None:
        self.lived.commit(draw)

    @rule(draw=Draws, checked=st.booleans())
    def commit_while_rows_are_refused(self, draw: random.Random, checked: bool) -> None:
        """The usual way to a parked change."""
        self.lived.stage.refuse(checked=checked)
        self.lived.commit(draw)
        self.lived.commit(draw)
        self.lived.apply(2, pieces=False)

    @rule(checked=st.booleans())
    def refuse(self, checked: bool) -> None:
        self.lived.stage.refuse(checked=checked)

    @rule()
    def accept(self) -> None:
        self.lived.stage.accept()

    @precondition(lambda self: self.life is not None and self.life.pending)
    @rule(number=Few, pieces=st.booleans())
    def apply(self, number: int, pieces: bool) -> None:
        self.lived.apply(number, pieces=pieces)

    @rule(
        draw=Draws, number=Few, pieces=st.booleans(), point=st.sampled_from(POINTS), passes=Passes
    )
    def crash(
        self, draw: random.Random, number: int, pieces: bool, point: str, passes: int
    ) -> None:
        """The process ends inside a unit of work, or right behind it."""
        self.lived.commit(draw)
        with self.lived.crashing(point, passes):
            self.lived.apply(number, pieces=pieces)

    @rule(
        draw=Draws,
        number=Few,
        pieces=st.booleans(),
        point=st.sampled_from(POINTS[:-1]),
        passes=Passes,
    )
    def lose_the_connection(
        self, draw: random.Random, number: int, pieces: bool, point: str, passes: int
    ) -> None:
        """A unit of work is rolled back, and the same process goes on."""
        self.lived.commit(draw)
        with self.lived.losing(point, passes):
            self.lived.apply(number, pieces=pieces)

    @rule()
    def restart(self) -> None:
        self.lived.restart()

    # --- time and administrators ------------------------------------------------------------------

    @rule()
    def turn(self) -> None:
        """What the worker does between units of work."""
        self.lived.session.turn()

    @rule()
    def let_time_pass(self) -> None:
        self.lived.stage.let_time_pass()
        self.lived.session.turn()

    @in_trouble
    @rule(picks=Picks, every=st.booleans())
    def retry(self, picks: set[int], every: bool) -> None:
        self.lived.ask("retry", {} if every else {"ids": self.lived.picked(picks)})

    @in_trouble
    @rule(passes=Passes)
    def crash_while_replaying(self, passes: int) -> None:
        """What had taken effect stays; the rest of the command is done after the restart."""
        with self.lived.crashing("before_sink_commit", passes):
            self.lived.ask("retry", {})
        self.lived.session.turn()

    @in_trouble
    @rule(
        pick=Pick,
        note=st.sampled_from(["fine", "poison"]),
        key=st.sampled_from([None, None, *NUMBERS]),
    )
    def edit(self, pick: int, note: str, key: str | None) -> None:
        (number,) = self.lived.picked({pick})
        self.lived.edit(number, note, key)

    @precondition(lambda self: self.life is not None and len(self.life.parked()) > 2)
    @rule(pick=Pick)
    def skip(self, pick: int) -> None:
        self.lived.skip(self.lived.picked({pick}))

    @precondition(lambda self: self.life is not None and len(self.life.parked()) > 2)
    @rule(picks=Picks)
    def resync(self, picks: set[int]) -> None:
        self.lived.resync(self.lived.picked(picks))
