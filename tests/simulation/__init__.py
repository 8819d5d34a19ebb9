"""A world in one process and virtual time, in which everything that can go wrong does, from a seed.

Inside are the real function, the real webhook in two replicas, the batch's own commit step and the operator's own
command. Around them, behind the interfaces of the real ones: a bucket whose generations are random, events that are
lost, late, doubled and reordered, a cluster, a notifier, clocks that differ, people who delete things. At every call
that leaves a process it may fail, fail after it took effect, stall while others act, or be the process's last.

``python -m tests.simulation --seeds 200`` runs more of them; ``--seed 17 --story`` tells one, a line for each event.
`world` holds time and what truly happened, `course` what will happen, `people` who acts besides, `replica` a webhook,
`outside` and `cluster` what stands around them, `faults` what befalls a call, `invariants` what must hold, `bugs` the
planted ones that these must find.
"""
