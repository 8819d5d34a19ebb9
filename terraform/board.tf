# The board behind Identity-Aware Proxy: who signs in there changes what an operator may change, and is written down by name. It
# asks webhooks how rollouts go, with its identity token, by which it may do nothing else there (WEBHOOK_READERS in the outputs).

locals {
  asked_by_board = var.operators.image == null ? [] : coalesce(var.operators.webhooks, keys(local.environments))
}

resource "google_cloud_run_v2_service" "board" {
  count               = var.operators.image == null ? 0 : 1
  project             = var.project.id
  location            = var.region
  name                = "indexpush-board"
  ingress             = "INGRESS_TRAFFIC_ALL"
  iap_enabled         = true
  deletion_protection = false # it holds nothing

  template {
    service_account = local.accounts.board
    encryption_key  = var.project.key
    timeout         = "3600s" # what it sends by itself is one long answer
    scaling { max_instance_count = 2 }
    containers {
      image = var.operators.image
      args = concat(
        [
          "board", "--host", "0.0.0.0", "--port", "8080", "--sign-in", "iap",
          "--audience", "/projects/${var.project.number}/locations/${var.region}/services/indexpush-board",
        ],
        flatten([for name in local.asked_by_board : ["--webhook", local.environments[name].url]]),
      )
      ports { container_port = 8080 }
      env {
        name  = "MODEL_REPOSITORY"
        value = "gs://${var.bucket}"
      }
      env {
        name  = "CD_WEBHOOK_AUTH"
        value = "google-id-token"
      }
    }
    dynamic "vpc_access" { # the webhooks are within
      for_each = length(local.asked_by_board) == 0 ? [] : [var.network]
      content {
        egress = "PRIVATE_RANGES_ONLY"
        network_interfaces {
          network    = vpc_access.value.network
          subnetwork = vpc_access.value.subnetwork
        }
      }
    }
  }

  depends_on = [google_service_account.account]
}

resource "google_cloud_run_v2_service_iam_member" "board" {
  count    = var.operators.image == null ? 0 : 1
  project  = var.project.id
  location = var.region
  name     = google_cloud_run_v2_service.board[0].name
  role     = "roles/run.invoker"
  member   = local.agents.iap # and nobody else: nothing reaches the board but through it
}

resource "google_iap_web_cloud_run_service_iam_member" "board" {
  for_each               = toset(var.operators.image == null ? [] : var.operators.members)
  project                = var.project.id
  location               = var.region
  cloud_run_service_name = google_cloud_run_v2_service.board[0].name
  role                   = "roles/iap.httpsResourceAccessor"
  member                 = each.key
}
