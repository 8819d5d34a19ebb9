# Who is who. In the cluster: its own service accounts, by Workload Identity, so there is no Google service account to lend.

locals {
  kubernetes = "principal://iam.googleapis.com/projects/${var.project.number}/locations/global/workloadIdentityPools/${var.project.id}.svc.id.goog/subject"
  webhooks   = { for name, each in local.environments : name => "${local.kubernetes}/ns/${each.namespace}/sa/indexpush-cd-webhook" }
  pods       = { for name, each in local.environments : name => "${local.kubernetes}/ns/${each.namespace}/sa/indexpush-search" }

  roles = merge(
    {
      on-commit = "the function that hears of commits"
      push      = "pushes messages to the functions"
      builder   = "builds the functions"
      batch     = "makes builds and commits them"
    },
    var.notify == null ? {} : { notify = "the function that tells people" },
    var.operators.image == null ? {} : {
      board     = "the board"
      prune     = "deletes what nobody can want"
      scheduler = "starts prune"
    },
    var.cluster == null ? {} : { nodes = "the cluster's machines" },
  )
  accounts = { for name in keys(local.roles) : name => "indexpush-${name}@${var.project.id}.iam.gserviceaccount.com" }
}

resource "google_service_account" "account" {
  for_each     = local.roles
  project      = var.project.id
  account_id   = "indexpush-${each.key}"
  display_name = "indexpush: ${each.value}"

  depends_on = [google_project_service.used]
}
