# The Google Cloud half of an installation. What runs in the cluster is manifests/; docs/install.md has both, in order.

locals {
  environments = {
    for name, environment in var.environments : name => merge(environment, {
      namespace = coalesce(environment.namespace, "indexpush-${name}")
      freshness = environment.freshness_hours == null ? {} : { FRESHNESS_SECONDS = tostring(ceil(environment.freshness_hours * 3600)) }
      variable  = upper(replace(name, "-", "_")) # as the function writes an environment in names of its variables
      url       = coalesce(environment.webhook_url, try("http://${google_compute_address.webhook[name].address}/webhooks/webhook/indexpush", null))
    })
  }
  agents = { # Google's own of this project, which are made beforehand: docs/install.md
    storage = "serviceAccount:service-${var.project.number}@gs-project-accounts.iam.gserviceaccount.com"
    pubsub  = "serviceAccount:service-${var.project.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
    iap     = "serviceAccount:service-${var.project.number}@gcp-sa-iap.iam.gserviceaccount.com"
  }
}

resource "google_project_service" "used" {
  for_each = toset([
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudfunctions.googleapis.com",
    "cloudscheduler.googleapis.com",
    "compute.googleapis.com",
    "container.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "iap.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
  ])
  project            = var.project.id
  service            = each.key
  disable_on_destroy = false
}

# Where images are pushed to: docs/install.md.
resource "google_artifact_registry_repository" "images" {
  project       = var.project.id
  location      = var.region
  repository_id = "indexpush"
  format        = "DOCKER"
  kms_key_name  = var.project.key

  depends_on = [google_project_service.used]
}
