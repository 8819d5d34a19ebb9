"""Answers similarity queries from a mapped index: one pod, one build, one generation, a process for each processor.

Start reading at `supervisor` and `worker` (what happens when), then `app` (what can be asked), `build.index` (how it is
answered) and `build.prove` (why it may be believed).
"""
