"""What may go wrong at every call of an enrollment, tried out systematically.

`python -m tests.exploration` explores everything and writes docs/campaign/exploration.md.
`python -m tests.exploration --replay 'decline: 41=killed 77=cancel'` repeats one schedule.
"""
