# What wakes the functions: a topic each, what pushes it to them, and where a message ends up that nobody could handle.

resource "google_pubsub_topic" "uploads" {
  for_each = local.functions
  project  = var.project.id
  name     = "indexpush-${each.value.topic}"

  kms_key_name = var.project.key

  depends_on = [google_project_service.used]
}

resource "google_pubsub_topic_iam_member" "bucket" {
  for_each = local.functions
  project  = var.project.id
  topic    = google_pubsub_topic.uploads[each.key].name
  role     = "roles/pubsub.publisher"
  member   = local.agents.storage
}

resource "google_storage_notification" "uploaded" {
  for_each = merge([for name, function in local.functions : {
    for prefix in function.hears_of : "${prefix} to ${name}" => { function = name, prefix = prefix }
  }]...)
  bucket             = google_storage_bucket.repository.name
  topic              = google_pubsub_topic.uploads[each.value.function].id
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = each.value.prefix
  payload_format     = "JSON_API_V1"

  depends_on = [google_pubsub_topic_iam_member.bucket]
}

# What function and webhook have to say of refusals and of faults that last, for whatever else listens.
resource "google_pubsub_topic" "reports" {
  project = var.project.id
  name    = "indexpush-reports"

  kms_key_name = var.project.key

  depends_on = [google_project_service.used]
}

resource "google_pubsub_subscription" "reports" {
  project = var.project.id
  name    = "indexpush-reports"
  topic   = google_pubsub_topic.reports.id

  message_retention_duration = "604800s"
  expiration_policy { ttl = "" }
}

resource "google_pubsub_topic_iam_member" "reports" {
  for_each = merge(
    { function = "serviceAccount:${local.accounts.on-commit}" },
    { for name, _ in local.environments : "webhook-${name}" => local.webhooks[name] },
  )
  project = var.project.id
  topic   = google_pubsub_topic.reports.name
  role    = "roles/pubsub.publisher"
  member  = each.value

  depends_on = [google_service_account.account, google_container_cluster.search]
}

resource "google_pubsub_subscription" "push" {
  for_each             = local.functions
  project              = var.project.id
  name                 = "indexpush-${each.key}"
  topic                = google_pubsub_topic.uploads[each.key].id
  ack_deadline_seconds = 600 # the most; the function itself ends after 540

  message_retention_duration = "604800s"
  expiration_policy { ttl = "" } # never

  push_config {
    push_endpoint = google_cloudfunctions2_function.function[each.key].service_config[0].uri
    oidc_token { service_account_email = local.accounts.push }
  }
  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead[each.key].id
    max_delivery_attempts = 100 # the most: half a day and more; the sweep looks at the bucket meanwhile
  }

  depends_on = [google_service_account.account]
}

resource "google_pubsub_topic" "dead" {
  for_each = local.functions
  project  = var.project.id
  name     = "indexpush-${each.key}-dead"

  kms_key_name = var.project.key

  depends_on = [google_project_service.used]
}

resource "google_pubsub_subscription" "dead" {
  for_each = local.functions
  project  = var.project.id
  name     = "indexpush-${each.key}-dead"
  topic    = google_pubsub_topic.dead[each.key].id

  message_retention_duration = "604800s"
  expiration_policy { ttl = "" }
}

resource "google_pubsub_topic_iam_member" "dead" {
  for_each = local.functions
  project  = var.project.id
  topic    = google_pubsub_topic.dead[each.key].name
  role     = "roles/pubsub.publisher"
  member   = local.agents.pubsub
}

resource "google_pubsub_subscription_iam_member" "dead" {
  for_each     = local.functions
  project      = var.project.id
  subscription = google_pubsub_subscription.push[each.key].name
  role         = "roles/pubsub.subscriber" # to acknowledge what it moved
  member       = local.agents.pubsub
}
