# To try it out in an empty project: one environment, with a cluster of its own.

variable "project" { type = object({ id = string, number = number }) }
variable "bucket" { type = string }

variable "region" {
  type    = string
  default = "europe-west4"
}

variable "operators" {
  type    = object({ members = list(string), image = optional(string), webhooks = optional(list(string)) })
  default = { members = [] }
}

provider "google" {
  project = var.project.id
  region  = var.region
}

module "indexpush" {
  source       = "../.."
  project      = var.project
  region       = var.region
  bucket       = var.bucket
  environments = { staging = {} }
  cluster      = "search"
  operators    = var.operators
}

output "indexpush" { value = module.indexpush }
