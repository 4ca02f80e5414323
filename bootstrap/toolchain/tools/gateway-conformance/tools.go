//go:build tools

// Package tools names what is built, so that go.mod and go.sum pin it.
package tools

import (
	_ "sigs.k8s.io/gateway-api/conformance"
	_ "sigs.k8s.io/gateway-api/conformance/echo-basic"
)
