# A platform's cluster on this machine, as infrastructure: the profiles' lowest layer.
#
# `comind-ops tf …` drives it with a folder below the home for each environment. Only what Terraform
# has built in is used, so nothing is fetched.

terraform {
  required_version = ">= 1.9.0"
}

resource "terraform_data" "cluster" {
  # Both say which cluster it is: with another of them it is another one.
  triggers_replace = [var.environment, var.home]

  # What its end has to know, since nothing else can be asked then.
  input = {
    environment = var.environment
    home        = var.home
  }

  # COMIND_OPS is the program; it says what it does as JSON where COMIND_OPS_SAYS has --json.
  provisioner "local-exec" {
    command     = "\"$${COMIND_OPS:-comind-ops}\" $${COMIND_OPS_SAYS-} cluster create"
    interpreter = ["/bin/sh", "-c"]
    environment = {
      ENV         = self.input.environment
      COMIND_HOME = self.input.home
    }
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "\"$${COMIND_OPS:-comind-ops}\" $${COMIND_OPS_SAYS-} --yes cluster delete"
    interpreter = ["/bin/sh", "-c"]
    environment = {
      ENV         = self.input.environment
      COMIND_HOME = self.input.home
    }
  }
}
