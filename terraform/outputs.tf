output "bucket" {
  description = "The Model Repository."
  value       = "gs://${google_storage_bucket.repository.name}"
}

output "images" {
  description = "Where images are pushed to."
  value       = "${var.region}-docker.pkg.dev/${var.project.id}/${google_artifact_registry_repository.images.repository_id}"
}

output "batch" {
  description = "The service account that the batch runs as."
  value       = local.accounts.batch
}

output "board" {
  description = "Where the board is, or null."
  value       = one(google_cloud_run_v2_service.board[*].uri)
}

output "webhooks" {
  description = "By environment, what its webhook must be told: its namespace and address (null: webhook_url was stated), and its variables."
  value = {
    for name, each in local.environments : name => {
      namespace = each.namespace
      address   = try(google_compute_address.webhook[name].address, null)
      variables = merge(local.traces, contains(local.asked_by_board, name) ? { WEBHOOK_READERS = local.accounts.board } : {}, each.freshness, {
        ENVIRONMENT          = name
        GOOGLE_CLOUD_PROJECT = var.project.id
        MODEL_REPOSITORY     = "gs://${var.bucket}"
        NOTIFY_TOPIC         = "projects/${var.project.id}/topics/indexpush-reports"
        WEBHOOK_AUTH         = "google-id-token"
        WEBHOOK_AUDIENCE     = regex("^https?://[^/]+", each.url)
        WEBHOOK_CALLERS      = local.accounts.on-commit
      })
    }
  }
}
