# The seam to what runs inside: a module for another cloud gives the same outputs.

output "get_credentials" {
  description = "Command that lets kubectl and helm reach the cluster."
  value       = "gcloud container clusters get-credentials ${google_container_cluster.this.name} --location ${google_container_cluster.this.location} --project ${var.project} --dns-endpoint"
}

output "image_registry" {
  description = "Where `docker push` puts our images."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "bucket" {
  description = "Bucket of models and lake."
  value       = google_storage_bucket.this.name
}

output "holds" {
  description = "What the chosen size is meant for."
  value = {
    size       = var.size
    cars       = local.size.cars
    partitions = local.size.partitions
    brokers    = local.size.brokers
  }
}

output "helm_values_platform" {
  description = "Values for helm/platform: terraform output -raw helm_values_platform > platform.yaml"
  value = yamlencode({
    pool = "kafka"
    kafka = {
      brokers      = local.size.brokers
      controllers  = min(3, local.size.brokers)
      disk         = "${local.size.disk_gib}Gi"
      storageClass = "standard-rwo"
      resources = {
        requests = local.size.broker
        limits   = { memory = local.size.broker.memory }
      }
    }
    topics = {
      partitions = local.size.partitions
    }
    hivemq = {
      nodes        = local.size.mqtt_nodes
      resources    = local.size.mqtt
      storageClass = "premium-rwo"
    }
  })
}

output "helm_values_telltale" {
  description = "Values for helm/telltale: terraform output -raw helm_values_telltale > telltale.yaml"
  value = yamlencode({
    image = {
      registry = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
    }
    topics = {
      partitions  = local.size.partitions
      replication = min(3, local.size.brokers)
    }
    nodeSelector = {
      "telltale.io/pool" = "stateless"
    }
    tolerations = [{
      key      = "telltale.io/pool"
      operator = "Equal"
      value    = "stateless"
      effect   = "NoSchedule"
    }]
  })
}

output "workload_identities" {
  description = "Annotation of each Kubernetes service account that uses the bucket, by its name."
  value = {
    for name, workload in local.workloads :
    "${var.namespace}/${workload.account}" => { "iam.gke.io/gcp-service-account" = google_service_account.of[name].email }
  }
}
