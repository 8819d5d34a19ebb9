variable "project" {
  description = <<-EOT
    The project: its id, and its number, by which Google names its own agents (gcloud projects describe ID).
    key: of Cloud KMS, in the same region and anybody's project (projects/P/locations/REGION/keyRings/R/cryptoKeys/K), by which
    buckets, topics, images and what runs on Cloud Run are encrypted; docs/install.md says who must be allowed to use it. null: Google's own.
  EOT
  type        = object({ id = string, number = number, key = optional(string) })

  validation {
    condition     = var.project.key == null || can(regex("^projects/[^/]+/locations/[a-z0-9-]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.project.key))
    error_message = "project.key: projects/<project>/locations/<region>/keyRings/<ring>/cryptoKeys/<key>, without a version."
  }
}

variable "region" {
  description = "Where everything is, such as europe-west4."
  type        = string
}

variable "bucket" {
  description = "Name of the Model Repository's bucket, without gs://. A second one, <bucket>-functions, holds the functions' source."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,51}[a-z0-9]$", var.bucket))
    error_message = "bucket: 3 to 53 small letters, digits and hyphens, so that <bucket>-functions is a name, too."
  }
}

variable "environments" {
  description = <<-EOT
    What is deployed to, by name: a folder below commits/ and deployments/, a namespace and a webhook each.
    namespace: of its webhook and pods; indexpush-<environment> unless stated.
    webhook_url: where deployments are asked for; unless stated, an internal address is reserved, and named in the outputs.
    freshness_hours: people are told of an index that gets no new commit for so long, and alerts of one that serves what is older.
    batch_commits: whether the batch may commit here; where not, people promote.
  EOT
  type = map(object({
    namespace       = optional(string)
    webhook_url     = optional(string)
    freshness_hours = optional(number)
    batch_commits   = optional(bool, true)
  }))

  validation {
    condition     = length(var.environments) > 0 && alltrue([for name in keys(var.environments) : can(regex("^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$", name))])
    error_message = "environments: at least one; names are small letters, digits and hyphens, 30 at most, and begin with a letter."
  }
}

variable "network" {
  description = <<-EOT
    Where the function reaches the webhooks from, and where their addresses are reserved.
    collector: of traces, OTLP over HTTP, as the function and the webhooks reach it (url = "http://10.0.0.7:4318"); null: no traces.
    headers_secret: the secret whose newest version is what it wants to see, as OTEL_EXPORTER_OTLP_HEADERS has it.
  EOT
  type = object({
    network    = optional(string, "default")
    subnetwork = optional(string, "default")
    collector  = optional(object({ url = string, headers_secret = optional(string) }))
  })
  default = {}

  validation {
    condition     = var.network.collector == null || can(regex("^https?://[^/?#@\\s]+(/[^?#\\s]*)?$", var.network.collector.url))
    error_message = "network.collector.url: http(s)://host[:port], to which /v1/traces is added; what it wants to see is a secret's."
  }
}

variable "cluster" {
  description = "Name of a GKE Autopilot cluster to make; null: there is one in this project, with Workload Identity."
  type        = string
  default     = null
}

variable "operators" {
  description = <<-EOT
    members: who may commit to every environment (group:search@example.com).
    image: the operator's command (operator_cli/Dockerfile). With it prune runs daily, and those members have the board, behind
    Identity-Aware Proxy, which wants a project that belongs to an organisation. Without it neither is made.
    webhooks: environments whose webhook the board asks how rollouts go; all unless stated. A Spinnaker doesn't say.
  EOT
  type        = object({ members = list(string), image = optional(string), webhooks = optional(list(string)) })
  default     = { members = [] }
}

variable "notify" {
  description = <<-EOT
    Deploys functions/notify, which tells people what becomes of each commit; null: it isn't deployed.
    environment: its variables (SLACK_CHANNEL = "C0123ABCD"). secrets: variables whose value is the newest version of the
    secret of that name (SLACK_TOKEN = "indexpush-slack-token").
  EOT
  type        = object({ environment = optional(map(string), {}), secrets = optional(map(string), {}) })
  default     = null
}
