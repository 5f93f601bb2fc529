"""Speed and memory of the daemon beside native logical replication, taken in one run.

Both read the same backlog of the same PostgreSQL server over TCP loopback and write to databases of
one other server. For each figure the backlog is built while both stand still; then one after the
other starts, and the progress that its target shows is probed every 10 ms: the rate is the rows
between the first and the last probe that saw progress, divided by the time between them. It is
invalid, and taken again with more rows, when the first probe saw more than a tenth. Machines are
noisy, so pairs alternate and only their ratios count.

``python -m benchmarks --help`` says what can be chosen; ``figures`` says what each figure is.
"""
