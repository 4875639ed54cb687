package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

func init() {
	// The order of the plugins in CoreDNS's chain, not that of the Corefile.
	dnsserver.Directives = []string{"errors", "health", "ready", "cache", "kubernetes"}
}

func runDNS() { coremain.Run() }
