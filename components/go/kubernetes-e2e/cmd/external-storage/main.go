// SPDX-License-Identifier: GPL-3.0-or-later

// Command external-storage runs Kubernetes' end-to-end tests of storage drivers: what e2e.test has under "External Storage",
// with its flags, and without the thousands of other tests that take a machine a long time to compile.
// The order of what happens here is that of test/e2e/e2e_test.go in k8s.io/kubernetes.
package main

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"k8s.io/kubernetes/test/e2e"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	manifests "k8s.io/kubernetes/test/e2e/testing-manifests"

	// Tests, which a driver's definition brings to life.
	_ "k8s.io/kubernetes/test/e2e/storage/external"

	// Parts of the framework.
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/utils/format"
)

func main() {
	testing.Init()
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "there are flags only, and not %q\n", flag.Args())
		os.Exit(2)
	}
	testfiles.AddFileSource(manifests.GetE2ETestingManifestsFS())
	framework.AfterReadingAllFlags(&framework.TestContext)
	var verdict testing.T
	e2e.RunE2ETests(&verdict)
	if verdict.Failed() {
		os.Exit(1)
	}
}
