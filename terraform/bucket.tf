# The Model Repository. Builds, models and records are deleted by `indexpush prune` alone, which knows what is live
# (docs/decisions/0029): a rule by age would delete a build that has served for months. Only the batch's caches and what its
# steps leave for each other may go by age; the newest list of catalogues/ is needed, so that isn't among them.
resource "google_storage_bucket" "repository" {
  project                     = var.project.id
  name                        = var.bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  soft_delete_policy {
    retention_duration_seconds = 7 * 24 * 3600
  }

  dynamic "lifecycle_rule" {
    for_each = { "shards/" = 7, "pictures/" = 90, "features/" = 180 }
    content {
      action { type = "Delete" }
      condition {
        age            = lifecycle_rule.value
        matches_prefix = [lifecycle_rule.key]
      }
    }
  }

  lifecycle_rule {
    action { type = "AbortIncompleteMultipartUpload" }
    condition { age = 7 }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_project_service.used]
}
