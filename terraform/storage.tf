# The bucket for models and lake, and the repository of our images.

resource "google_storage_bucket" "this" {
  # Names of buckets are the whole world's: the project's id makes it ours.
  name          = "${var.project}-${var.name}"
  location      = var.region
  storage_class = "STANDARD"
  force_destroy = !var.deletion_protection

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = true
  }

  soft_delete_policy {
    retention_duration_seconds = 604800
  }

  lifecycle_rule {
    action {
      type          = "SetStorageClass"
      storage_class = "NEARLINE"
    }

    condition {
      age            = 30
      matches_prefix = ["lake/"]
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      age            = var.lake_retention_days
      matches_prefix = ["lake/"]
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      days_since_noncurrent_time = 30
      with_state                 = "ARCHIVED"
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }

    condition {
      age = 7
    }
  }

  depends_on = [google_project_service.needed]
}

# Rights are given on folders: who writes the lake cannot touch models.
resource "google_storage_managed_folder" "of" {
  for_each = local.workloads

  bucket        = google_storage_bucket.this.name
  name          = "${each.key}/"
  force_destroy = !var.deletion_protection
}

resource "google_artifact_registry_repository" "images" {
  repository_id = var.name
  location      = var.region
  format        = "DOCKER"
  description   = "Images of Telltale"

  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "untagged"
    action = "DELETE"

    condition {
      tag_state  = "UNTAGGED"
      older_than = "30d"
    }
  }

  depends_on = [google_project_service.needed]
}
