"""Pictures, and what is in them, to vectors, in processes that can be ended: a decoder's costs are never the server's.

The supervisor has the pod's few processes (`processes.py`) and a door to them (`door.py`); `client.py` is what a worker
asks there, `child.py` what such a process runs. All workers share them: memory for a large picture, and the model, are
there once in a pod, however many workers it has.
"""
