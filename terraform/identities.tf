# Who may do what: one identity for the nodes, one for each workload that uses the bucket. No keys: pods prove who they are by
# workload identity.

locals {
  # Each workload has the folder of its name, and is a service account of the same name in our namespace.
  workloads = {
    lake   = { account = "telltale-lake", role = "roles/storage.objectUser" }
    models = { account = "telltale-trainer", role = "roles/storage.objectUser" }
  }
}

resource "google_service_account" "nodes" {
  account_id   = "${var.name}-nodes"
  display_name = "Nodes of ${var.name}"

  depends_on = [google_project_service.needed]
}

# Logs, metrics and nothing else; the default account of Compute Engine may edit the whole project.
resource "google_project_iam_member" "nodes" {
  project = var.project
  role    = "roles/container.defaultNodeServiceAccount"
  member  = google_service_account.nodes.member
}

resource "google_artifact_registry_repository_iam_member" "nodes" {
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.nodes.member
}

resource "google_service_account" "of" {
  for_each = local.workloads

  account_id   = "${var.name}-${each.key}"
  display_name = "${var.name}: ${each.key}/ in the bucket"

  depends_on = [google_project_service.needed]
}

resource "google_storage_managed_folder_iam_member" "of" {
  for_each = local.workloads

  bucket         = google_storage_managed_folder.of[each.key].bucket
  managed_folder = google_storage_managed_folder.of[each.key].name
  role           = each.value.role
  member         = google_service_account.of[each.key].member
}

# The pool of identities is there once the project's first cluster is.
resource "google_service_account_iam_member" "pods" {
  for_each = local.workloads

  service_account_id = google_service_account.of[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.namespace}/${each.value.account}]"

  depends_on = [google_container_cluster.this]
}
