"""Answers similarity queries from a mapped index: one pod, one build, one generation, a process for each processor.

Start reading at `processes` (what happens when), then `app` (what can be asked), `queries` and `build.index` (how it is
answered) and `build.prove` (why it may be believed).
"""
