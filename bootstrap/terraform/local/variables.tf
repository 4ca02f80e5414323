# All of them are in the folder's terraform.tfvars.json, which `comind-ops tf` writes.

variable "environment" {
  description = "Which environment: dev, stage, qa or prod."
  type        = string

  validation {
    condition     = contains(["dev", "stage", "qa", "prod"], var.environment)
    error_message = "The environments are dev, stage, qa, prod."
  }
}

variable "home" {
  description = "Where comind-ops has its files; the cluster's are below it."
  type        = string

  validation {
    condition     = startswith(var.home, "/")
    error_message = "The home is an absolute path."
  }
}

variable "cluster_name" {
  description = "The cluster's name, which is that of its context too."
  type        = string
}

variable "cluster_endpoint" {
  description = "Where the cluster's API is."
  type        = string
}

variable "kubeconfig_path" {
  description = "The administrator's kubeconfig."
  type        = string
}

variable "node_addresses" {
  description = "The nodes' addresses."
  type        = list(string)
}

variable "ingress_url" {
  description = "Where the platform's pages are."
  type        = string
}
