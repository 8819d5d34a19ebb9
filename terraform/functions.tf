# Cloud Run functions, each from its folder alone. Pub/Sub pushes to them by subscriptions of ours (events.tf), as those of an
# event trigger can't have a dead-letter topic.

locals {
  collector_headers = try(var.network.collector.headers_secret, null)
  traces            = var.network.collector == null ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT = var.network.collector.url }

  folders = merge({ on-commit = "on_commit" }, var.notify == null ? {} : { notify = "notify" })

  functions = {
    for name, function in {
      on-commit = {
        topic    = "commits"
        hears_of = ["commits/", "filters/"]
        sweeps   = "*/15 * * * *"
        secrets  = local.collector_headers == null ? {} : { OTEL_EXPORTER_OTLP_HEADERS = local.collector_headers }
        environment = merge(
          {
            MODEL_REPOSITORY     = "gs://${var.bucket}"
            CD_WEBHOOK_AUTH      = "google-id-token"
            NOTIFY_TOPIC         = "projects/${var.project.id}/topics/indexpush-reports"
            GOOGLE_CLOUD_PROJECT = var.project.id
          },
          { for each in local.environments : "CD_WEBHOOK_URL_${each.variable}" => each.url },
          merge([for each in local.environments : { for name, seconds in each.freshness : "${name}_${each.variable}" => seconds }]...),
          local.traces,
          # Cloud Run marks few requests as to be kept, and commits are few.
          { for name in keys(local.traces) : "OTEL_TRACES_SAMPLER" => "always_on" },
        )
      }
      notify = {
        topic    = "notices"
        hears_of = ["commits/", "deployments/", "incidents/", "reports/"]
        sweeps   = "*/2 * * * *"
        secrets  = try(var.notify.secrets, {})
        environment = merge(
          { MODEL_REPOSITORY = "gs://${var.bucket}", GOOGLE_CLOUD_PROJECT = var.project.id },
          try(var.notify.environment, {}),
        )
      }
    } : name => function if contains(keys(local.folders), name)
  }
}

resource "google_storage_bucket" "source" {
  project                     = var.project.id
  name                        = "${var.bucket}-functions"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  dynamic "encryption" {
    for_each = var.project.key[*]
    content { default_kms_key_name = encryption.value }
  }

  depends_on = [google_project_service.used]
}

data "archive_file" "source" {
  for_each    = local.folders # of nothing that is to be made, so that it is read in every plan
  type        = "zip"
  source_dir  = "${path.module}/../functions/${each.value}"
  output_path = "${path.root}/.terraform/indexpush-${each.key}.zip"
  excludes    = ["**/__pycache__/**", "README.md", ".gcloudignore"]

  output_file_mode = "0644" # the same archive from every machine

  lifecycle {
    precondition {
      condition     = fileexists("${path.module}/../functions/${each.value}/model_repository/__init__.py")
      error_message = "functions/${each.value} lacks its copy of the contract: run ./noxw -s vendor first."
    }
  }
}

resource "google_storage_bucket_object" "source" {
  for_each = local.functions
  bucket   = google_storage_bucket.source.name
  name     = "${each.key}-${data.archive_file.source[each.key].output_sha256}.zip"
  source   = data.archive_file.source[each.key].output_path
}

resource "google_artifact_registry_repository" "functions" {
  project       = var.project.id
  location      = var.region
  repository_id = "indexpush-functions"
  format        = "DOCKER"
  kms_key_name  = var.project.key

  depends_on = [google_project_service.used]
}

resource "google_cloudfunctions2_function" "function" {
  for_each = local.functions
  project  = var.project.id
  location = var.region
  name     = "indexpush-${each.key}"

  kms_key_name = var.project.key

  build_config {
    runtime           = "python312"
    entry_point       = local.folders[each.key]
    service_account   = "projects/${var.project.id}/serviceAccounts/${local.accounts.builder}"
    docker_repository = google_artifact_registry_repository.functions.id
    source {
      storage_source {
        bucket = google_storage_bucket_object.source[each.key].bucket
        object = google_storage_bucket_object.source[each.key].name
      }
    }
  }

  service_config {
    service_account_email = local.accounts[each.key]
    ingress_settings      = "ALLOW_INTERNAL_ONLY" # Pub/Sub of this project is within
    timeout_seconds       = 540
    available_memory      = "512M"
    available_cpu         = "1"
    max_instance_count    = 10
    environment_variables = each.value.environment

    # the webhooks are within
    direct_vpc_egress = each.key == "on-commit" ? "VPC_EGRESS_PRIVATE_RANGES_ONLY" : null
    dynamic "direct_vpc_network_interface" {
      for_each = each.key == "on-commit" ? [var.network] : []
      content {
        network    = direct_vpc_network_interface.value.network
        subnetwork = direct_vpc_network_interface.value.subnetwork
      }
    }
    dynamic "secret_environment_variables" {
      for_each = each.value.secrets
      content {
        project_id = var.project.id
        key        = secret_environment_variables.key
        secret     = secret_environment_variables.value
        version    = "latest"
      }
    }
  }

  depends_on = [
    google_project_iam_member.builder_logs,
    google_project_iam_member.builder_source,
    google_artifact_registry_repository_iam_member.builder,
    google_storage_bucket_iam_member.builder,
    google_secret_manager_secret_iam_member.notify,
    google_secret_manager_secret_iam_member.collector,
  ]
}

resource "google_cloud_run_v2_service_iam_member" "push" {
  for_each = local.functions
  project  = var.project.id
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name # the service has the function's name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${local.accounts.push}"
}

resource "google_secret_manager_secret_iam_member" "notify" {
  for_each  = toset(values(try(var.notify.secrets, {})))
  project   = var.project.id
  secret_id = each.key
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${local.accounts.notify}"

  depends_on = [google_service_account.account]
}

resource "google_secret_manager_secret_iam_member" "collector" {
  count     = local.collector_headers == null ? 0 : 1
  project   = var.project.id
  secret_id = local.collector_headers
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${local.accounts.on-commit}"

  depends_on = [google_service_account.account]
}

# What builds the functions' images: it reads their source, which Cloud Run functions copies into a bucket of its own first, writes
# images and logs.
resource "google_project_iam_member" "builder_logs" {
  project = var.project.id
  role    = "roles/logging.logWriter"
  member  = "serviceAccount:${local.accounts.builder}"

  depends_on = [google_service_account.account]
}

resource "google_project_iam_member" "builder_source" {
  project = var.project.id
  role    = "roles/storage.objectViewer"
  member  = "serviceAccount:${local.accounts.builder}"

  condition {
    title      = "the functions' source"
    expression = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-${var.project.number}-${var.region}/\")"
  }

  depends_on = [google_service_account.account]
}

resource "google_artifact_registry_repository_iam_member" "builder" {
  project    = var.project.id
  location   = var.region
  repository = google_artifact_registry_repository.functions.repository_id
  role       = "roles/artifactregistry.writer"
  member     = "serviceAccount:${local.accounts.builder}"

  depends_on = [google_service_account.account]
}

resource "google_storage_bucket_iam_member" "builder" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${local.accounts.builder}"

  depends_on = [google_service_account.account]
}
