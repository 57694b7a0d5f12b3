"""The best that any poller could do who knew when approvals come, though not this one's.

Choose the ages of the polls so that polls + delay × what a second of it is worth is least. On a
grid of ages this is a shortest path, solved from its end: standing at age i with the request still
open (probability S(i)), the next poll at j costs

    S(i)  +  worth × sum over i < x <= j of P(x) × (j - x)  +  the best from j on,

and the best j is kept. Each worth gives one point; together they draw the curve below which no
poller can be, whatever its schedule. Only a wake-up from outside could.
"""

from collections.abc import Sequence

import numpy as np

GRID = 1_500  # ages of each kind; twice as many move no figure of the report by one in a hundred
WORTHS = tuple(10 ** (step / 3) for step in range(-12, 4))  # looks per second of mean delay


def best_ages(ends: Sequence[float], worth: float) -> list[float]:
    """The ages of the best looks.

    Args:
        ends: ascending quantiles of the age at which a request ends.
        worth: how many polls a second of mean delay is worth.
    """
    known = np.asarray(ends)
    # Dense where requests end, and everywhere in between: a tail needs looks of its own.
    grid = [
        np.quantile(known, np.linspace(0, 1, GRID)),
        np.geomspace(known[0], known[-1], GRID),
        np.linspace(known[0], known[-1], GRID),
    ]
    ages = np.concatenate([[0.0], np.unique(np.concatenate(grid))])
    ended = np.interp(ages, known, np.linspace(0, 1, len(known)))  # P(x <= age)
    mass = np.diff(ended, prepend=0)
    middle = np.concatenate([[0.0], (ages[1:] + ages[:-1]) / 2])
    moment: np.ndarray = np.cumsum(mass * middle)
    best = np.zeros(len(ages))
    following: np.ndarray = np.zeros(len(ages), dtype=int)
    for i in range(len(ages) - 2, -1, -1):
        later = slice(i + 1, None)
        waited = ages[later] * (ended[later] - ended[i]) - (moment[later] - moment[i])
        costs = (1 - ended[i]) + worth * waited + best[later]
        following[i] = i + 1 + int(np.argmin(costs))
        best[i] = costs[following[i] - i - 1]
    polls, at = [], 0
    while at < len(ages) - 1:
        at = int(following[at])
        polls.append(float(ages[at]))
    return polls
