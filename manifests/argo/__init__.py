"""The batch on Argo Workflows: its steps as a WorkflowTemplate, and the CronWorkflow that runs it.

Start at `workflow.workflow_objects`; the order of the steps is read best in `workflow_template.yaml.j2`.
"""
