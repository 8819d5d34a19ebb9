# A shop's project with a cluster in it: the batch commits to staging, people promote to production. Slack is told.
# Keep the state where your team keeps its own: a `backend "gcs"` block belongs here.

provider "google" {
  project = "acme-search"
  region  = "europe-west4"
}

module "indexpush" {
  source  = "../.."
  project = { id = "acme-search", number = 123456789012 }
  region  = "europe-west4"
  bucket  = "acme-models"
  network = { network = "shop", subnetwork = "shop-europe-west4" }
  environments = {
    staging    = {}
    production = { freshness_hours = 6, batch_commits = false }
  }
  operators = {
    members = ["group:search-oncall@acme.example"]
    image   = "europe-west4-docker.pkg.dev/acme-search/indexpush/operator:0.1.0"
  }
  notify = {
    environment = { SLACK_CHANNEL = "C0123ABCD" }
    secrets     = { SLACK_TOKEN = "indexpush-slack-token" } # which is there before: docs/notify.md
  }
}

output "indexpush" { value = module.indexpush }
