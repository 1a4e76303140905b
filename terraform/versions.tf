# A GKE cluster and what stands around it, ready for the charts of ../helm.
#
#   variables.tf ─▶ sizes.tf ─▶ network.tf ─▶ cluster.tf ─▶ pools.tf
#                          └──▶ storage.tf ─▶ identities.tf ─▶ outputs.tf ─▶ helm install --values
#
# Raw google resources only: no provisioners, no helm releases. What runs inside the cluster is the charts' business, so that
# a cluster made by other means takes the same charts.

terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.0"
    }
  }
}

provider "google" {
  project        = var.project
  region         = var.region
  default_labels = local.labels
}
