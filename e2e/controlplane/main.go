// Command controlplane is a Kubernetes control plane in one binary: etcd, the
// API server, the controller manager and kubectl, as upstream wrote them.
//
// Each runs as a process of its own (the binary starts itself again under the
// component's name): upstream's commands take over os.Args, the signals and the
// process-wide feature gates, and a test wants to stop or kill one of them.
package main

import (
	"fmt"
	"os"
	"slices"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	component := os.Args[1]
	// Upstream's commands read os.Args themselves.
	os.Args = slices.Delete(os.Args, 1, 2)
	switch component {
	case "up":
		if err := up(); err != nil {
			fmt.Fprintln(os.Stderr, "controlplane:", err)
			os.Exit(1)
		}
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
	default:
		usage()
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: controlplane up|kube-apiserver|kube-controller-manager|kubectl [flag...]")
	os.Exit(2)
}
