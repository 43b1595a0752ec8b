// Command istiod is Istio's control plane, unchanged, as one program that
// needs no container: the tests start it next to the API server.
package main

import (
	"os"

	"istio.io/istio/pilot/cmd/pilot-discovery/app"
)

func main() {
	if err := app.NewRootCommand().Execute(); err != nil {
		os.Exit(1)
	}
}
