//go:build tools

package tools

import _ "github.com/grpc-ecosystem/grpc-health-probe"
