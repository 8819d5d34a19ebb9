# What runs by the clock: sweeps, by which functions find what an event that was lost should have done; prune, which deletes what nobody
# can want.

resource "google_cloud_scheduler_job" "sweep" {
  for_each = local.functions
  project  = var.project.id
  region   = var.region
  name     = "indexpush-sweep-${each.value.topic}"
  schedule = each.value.sweeps

  pubsub_target {
    topic_name = google_pubsub_topic.uploads[each.key].id
    data       = base64encode("sweep")
    attributes = { sweep = "true" }
  }
}

resource "google_cloud_run_v2_job" "prune" {
  count               = var.operators.image == null ? 0 : 1
  project             = var.project.id
  location            = var.region
  name                = "indexpush-prune"
  deletion_protection = false # it holds nothing

  template {
    template {
      service_account = local.accounts.prune
      encryption_key  = var.project.key
      timeout         = "3600s"
      max_retries     = 1
      containers {
        image = var.operators.image
        args  = ["prune", "--apply"]
        env {
          name  = "MODEL_REPOSITORY"
          value = "gs://${var.bucket}"
        }
      }
    }
  }

  depends_on = [google_service_account.account]
}

resource "google_cloud_run_v2_job_iam_member" "scheduler" {
  count    = var.operators.image == null ? 0 : 1
  project  = var.project.id
  location = var.region
  name     = google_cloud_run_v2_job.prune[0].name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${local.accounts.scheduler}"
}

resource "google_cloud_scheduler_job" "prune" {
  count    = var.operators.image == null ? 0 : 1
  project  = var.project.id
  region   = var.region
  name     = "indexpush-prune"
  schedule = "30 4 * * *"

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.prune[0].id}:run"
    oauth_token { service_account_email = local.accounts.scheduler }
  }
}
