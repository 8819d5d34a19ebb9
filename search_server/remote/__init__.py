"""Embedding by a pool of servers that scales apart, in the Open Inference Protocol v2 (KServe, Triton, MLServer).

Photos are decoded here, by the pod's own process; what a model takes of them is sent. `embedding.py` decides whether
the pool may be used, `over_http.py` and `over_grpc.py` speak with it, `golden.py` has what it must prove.
"""
