# Every profile has these. They are there when the cluster is.

output "environment" {
  description = "Which environment it is."
  value       = terraform_data.cluster.output.environment
}

output "cluster_name" {
  description = "The cluster's name."
  value       = var.cluster_name
  depends_on  = [terraform_data.cluster]
}

output "cluster_endpoint" {
  description = "Where the cluster's API is."
  value       = var.cluster_endpoint
  depends_on  = [terraform_data.cluster]
}

output "kubeconfig_path" {
  description = "The administrator's kubeconfig."
  value       = var.kubeconfig_path
  depends_on  = [terraform_data.cluster]
}

output "node_addresses" {
  description = "The nodes' addresses."
  value       = var.node_addresses
  depends_on  = [terraform_data.cluster]
}

output "ingress_url" {
  description = "Where the platform's pages are."
  value       = var.ingress_url
  depends_on  = [terraform_data.cluster]
}
