// Command kubenode holds every program of the local Kubernetes cluster in one binary: one build and one file instead
// of twelve. The first argument, or the name under which the binary is called, chooses the program.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	metricsserver "sigs.k8s.io/metrics-server/cmd/metrics-server/app"

	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

const self = "kubenode"

// commands are the programs with a cobra command of their own.
var commands = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	"kube-proxy":              proxy.NewProxyCommand,
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"metrics-server": func() *cobra.Command {
		return metricsserver.NewMetricsServerCommand(genericapiserver.SetupSignalHandler())
	},
}

// services are our own long-running programs; they end with an error or at SIGTERM.
var services = map[string]func(ctx context.Context, args []string) error{
	"netpol":      runNetworkPolicies,
	"provisioner": runProvisioner,
	"forward":     runForwarder,
}

func main() {
	if filepath.Base(os.Args[0]) == self {
		if len(os.Args) < 2 {
			fmt.Fprintln(os.Stderr, "usage: kubenode PROGRAM [flags]")
			os.Exit(2)
		}
		os.Args = os.Args[1:]
	}
	name := filepath.Base(os.Args[0])
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "coredns":
		runDNS()
		return
	}
	if service, ok := services[name]; ok {
		if err := untilSignal(service); err != nil {
			fmt.Fprintln(os.Stderr, name+":", err)
			os.Exit(1)
		}
		return
	}
	command, ok := commands[name]
	if !ok {
		fmt.Fprintln(os.Stderr, "kubenode: no such program:", name)
		os.Exit(2)
	}
	os.Exit(cli.Run(command()))
}
