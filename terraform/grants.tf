# Who may do what in the Model Repository: docs/threat-model.md in code. Everybody here reads all of it; what they may create,
# replace or delete is below the prefixes that stand here, by a condition each; what follows a * is how names end.

locals {
  batch = "serviceAccount:${local.accounts.batch}"

  # by a name that shows in plans: who, and what they may do below which prefixes
  grants = merge(
    {
      function = { member = "serviceAccount:${local.accounts.on-commit}", create = ["deployments/"], replace = ["incidents/"], delete = [] }
      batch = {
        member = local.batch
        create = ["indexes/", "models/"]
        replace = concat(
          ["catalogues/", "shards/", "pictures/", "features/", "diffs/", "reports/"],
          [for name, each in local.environments : "commits/${name}/" if each.batch_commits],
        )
        delete = []
      }
    },
    { for name, member in local.pods : "pods-${name}" => { member = member, create = [], replace = [], delete = [] } },
    { for name, member in local.webhooks : "webhook-${name}" => { member = member, create = ["deployments/${name}/"], replace = ["filters/${name}/"], delete = [] } },
    { for member in var.operators.members : member => {
      member = member, create = [], replace = flatten([for name in keys(local.environments) : ["commits/${name}/", "comparisons/${name}/"]]), delete = []
    } },
    { for name, account in local.accounts : name => {
      member = "serviceAccount:${account}", create = [], replace = [for name in keys(local.environments) : "commits/${name}/"], delete = []
    } if name == "board" },
    { for name, account in local.accounts : name => {
      member = "serviceAccount:${account}", create = [], replace = ["notices/"], delete = []
    } if name == "notify" },
    { for name, account in local.accounts : name => {
      member = "serviceAccount:${account}", create = [], replace = []
      delete = ["indexes/", "models/", "catalogues/", "shards/", "features/", "diffs/", "reports/", "comparisons/", "filters/*.hidden"]
    } if name == "prune" },
  )

  writes = merge([for name, grant in local.grants : merge(
    { for prefix in grant.create : "${name} creates ${prefix}" => { member = grant.member, prefix = prefix, role = "roles/storage.objectCreator" } },
    { for prefix in grant.replace : "${name} replaces ${prefix}" => { member = grant.member, prefix = prefix, role = "roles/storage.objectUser" } },
    { for prefix in grant.delete : "${name} deletes ${prefix}" => { member = grant.member, prefix = prefix, role = "projects/${var.project.id}/roles/indexpush.delete" } },
  )]...)
}

resource "google_storage_bucket_iam_member" "reads" {
  for_each = local.grants
  bucket   = google_storage_bucket.repository.name
  role     = "roles/storage.objectViewer"
  member   = each.value.member

  # members have to be there; the pool of Kubernetes' accounts comes with a project's first cluster
  depends_on = [google_service_account.account, google_container_cluster.search]
}

resource "google_storage_bucket_iam_member" "writes" {
  for_each = local.writes
  bucket   = google_storage_bucket.repository.name
  role     = each.value.role
  member   = each.value.member

  condition {
    title = each.value.prefix
    expression = join(" && ", [for part, text in split("*", each.value.prefix) :
      part == 0 ? "resource.name.startsWith(\"projects/_/buckets/${var.bucket}/objects/${text}\")" : "resource.name.endsWith(\"${text}\")"
    ])
  }

  depends_on = [google_service_account.account, google_container_cluster.search, google_project_iam_custom_role.delete]
}

# No role of Google's own deletes and does nothing else.
resource "google_project_iam_custom_role" "delete" {
  count       = var.operators.image == null ? 0 : 1
  project     = var.project.id
  role_id     = "indexpush.delete"
  title       = "indexpush: delete objects"
  permissions = ["storage.objects.delete"]

  depends_on = [google_project_service.used]
}
