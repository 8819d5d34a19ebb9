"""The batch as a pipeline for Kubeflow Pipelines and Vertex AI Pipelines: ``python -m embedding_batch.kubeflow``.

Nothing else imports kfp, and of these modules only `pipeline` and `server` do: `container` is what its containers run,
in the batch's image, which has no kfp.
"""
