//go:build pins

// Modules that are wanted for the files they carry, not for their code: the
// CRDs of Istio and of the Gateway API. Importing them under a tag that nobody
// sets keeps them in go.mod, so that `go list -m` finds them in one version.
package main

import (
	_ "istio.io/api/networking/v1"
	_ "sigs.k8s.io/gateway-api/apis/v1"
)
