# A GKE Autopilot cluster, where none is there yet; and an internal address for each webhook, where none is named.

resource "google_container_cluster" "search" {
  count               = var.cluster == null ? 0 : 1
  project             = var.project.id
  location            = var.region
  name                = var.cluster
  enable_autopilot    = true
  network             = var.network.network
  subnetwork          = var.network.subnetwork
  deletion_protection = true

  ip_allocation_policy {}
  release_channel { channel = "REGULAR" }
  cluster_autoscaling {
    auto_provisioning_defaults {
      service_account = local.accounts.nodes
      oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]
    }
  }

  depends_on = [google_project_iam_member.nodes, google_artifact_registry_repository_iam_member.nodes]
}

resource "google_project_iam_member" "nodes" {
  count   = var.cluster == null ? 0 : 1
  project = var.project.id
  role    = "roles/container.defaultNodeServiceAccount" # logs and metrics
  member  = "serviceAccount:${local.accounts.nodes}"

  depends_on = [google_service_account.account]
}

resource "google_artifact_registry_repository_iam_member" "nodes" {
  count      = var.cluster == null ? 0 : 1
  project    = var.project.id
  location   = var.region
  repository = google_artifact_registry_repository.images.repository_id
  role       = "roles/artifactregistry.reader"
  member     = "serviceAccount:${local.accounts.nodes}"

  depends_on = [google_service_account.account]
}

resource "google_compute_address" "webhook" {
  for_each     = { for name, environment in var.environments : name => environment if environment.webhook_url == null }
  project      = var.project.id
  region       = var.region
  name         = "indexpush-webhook-${each.key}"
  address_type = "INTERNAL"
  subnetwork   = "projects/${var.project.id}/regions/${var.region}/subnetworks/${var.network.subnetwork}"

  depends_on = [google_project_service.used]
}
