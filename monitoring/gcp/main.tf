# The alerts of monitoring/rules.yaml as policies of Google Cloud Monitoring, for metrics that Managed Service for Prometheus collects.
terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 8.0, < 9.0"
    }
  }
}

variable "project" {
  type        = string
  description = "Whose metrics are watched."
}

variable "notification_channels" {
  type        = list(string)
  default     = []
  description = "Whom the alerts go to: names of google_monitoring_notification_channel."
}

variable "runbooks" {
  type        = string
  default     = ""
  description = "What a browser finds docs/ under, with a slash at its end, so that alerts link to their runbooks."
}

locals {
  groups = yamldecode(file("${path.module}/../rules.yaml")).groups
  alerts = merge([
    for group in local.groups : {
      for rule in group.rules : rule.alert => { rule = rule, group = group, wait = lookup(rule, "for", "0s") } if can(rule.alert)
    }
  ]...)
  # A policy can't use what rules record, so it works it out itself: the same for each window.
  errors = one(flatten([
    for group in local.groups : [
      for rule in group.rules : rule.expr if try(rule.record, "") == "indexpush:search_errors:ratio_rate5m"
    ]
  ]))
  unit = { s = 1, m = 60, h = 3600 }
}

resource "google_monitoring_alert_policy" "alert" {
  for_each              = local.alerts
  project               = var.project
  display_name          = each.key
  combiner              = "OR"
  severity              = upper(each.value.rule.labels.severity)
  notification_channels = var.notification_channels

  conditions {
    display_name = each.key
    condition_prometheus_query_language {
      query = replace(
        each.value.rule.expr,
        "/indexpush:search_errors:ratio_rate(\\w+)/",
        "(${replace(local.errors, "[5m]", "[$1]")})"
      )
      duration                  = "${tonumber(regex("^[0-9]+", each.value.wait)) * local.unit[regex("[smh]$", each.value.wait)]}s"
      evaluation_interval       = each.value.group.interval
      rule_group                = each.value.group.name
      alert_rule                = each.key
      labels                    = each.value.rule.labels
      disable_metric_validation = true # a metric that nobody has told yet is no mistake
    }
  }

  documentation {
    # A label of the series as Google writes it; the value is left out.
    content = "${replace(
      replace(each.value.rule.annotations.summary, "/ \\(\\{\\{ \\$value[^}]*\\}\\}\\)/", ""),
      "/\\{\\{ \\$labels\\.(\\w+) \\}\\}/", "$${metric_or_resource.label.$1}"
    )}\n\n${var.runbooks}${each.value.rule.annotations.runbook}"
    mime_type = "text/markdown"
  }
}
