# The Model Repository. Builds, models, records and features are deleted by `indexpush prune` alone, which knows what is live and what
# the batch counts on (docs/decisions/0029): a rule by age would delete a build that has served for months, and embeddings that every run needs.
# Pictures go by age: one is needed again only when another model embeds it, and is then asked for again. Where nobody prunes (no image of
# the command), what the batch can make anew goes by age, too; the newest list of catalogues/ is needed, so that isn't among it.
resource "google_storage_bucket" "repository" {
  project                     = var.project.id
  name                        = var.bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  dynamic "encryption" {
    for_each = var.project.key[*]
    content { default_kms_key_name = encryption.value }
  }

  soft_delete_policy {
    retention_duration_seconds = 7 * 24 * 3600
  }

  dynamic "lifecycle_rule" {
    for_each = merge({ "pictures/" = 90 }, var.operators.image == null ? { "shards/" = 7, "features/" = 180 } : {})
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

    precondition {
      condition     = var.project.key == null || try(split("/", var.project.key)[3], "") == lower(var.region)
      error_message = "project.key: a key encrypts what is in its own location alone, which must be region."
    }
  }

  depends_on = [google_project_service.used]
}
