// SPDX-License-Identifier: GPL-3.0-or-later

// The livenessprobe of a CSI driver: a kubelet asks it by HTTP, it asks the driver by gRPC.
// It stands in for kubernetes-csi/livenessprobe, under its name and with its flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"kos.labs/components/csi/internal/driver"
)

// Set when linking.
var version = "unknown"

type settings struct {
	address  string
	endpoint string
	timeout  time.Duration
}

func main() {
	klog.InitFlags(nil)
	var given settings
	flag.StringVar(&given.address, "csi-address", "/run/csi/socket", "Socket of the CSI driver.")
	flag.DurationVar(&given.timeout, "probe-timeout", time.Second, "How long the driver may take to answer.")
	flag.StringVar(&given.endpoint, "http-endpoint", "", "Address and port on which /healthz is served. Not together with --health-port.")
	port := flag.String("health-port", "9808", "Port on which /healthz is served on all addresses, unless --http-endpoint is set.")
	show := flag.Bool("version", false, "Print the version and end.")
	flag.Parse()
	if *show {
		fmt.Println(os.Args[0], version)
		return
	}
	chosen := false
	flag.Visit(func(each *flag.Flag) { chosen = chosen || each.Name == "health-port" })
	if given.endpoint != "" && chosen {
		klog.Exit("--http-endpoint and --health-port exclude each other")
	}
	if given.endpoint == "" {
		given.endpoint = net.JoinHostPort("0.0.0.0", *port)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", given.endpoint)
	if err != nil {
		klog.Exit(err)
	}
	klog.InfoS("Starting", "version", version, "driver", given.address, "endpoint", given.endpoint)
	if err := run(ctx, given, listener); err != nil {
		klog.Exit(err)
	}
}

// run serves until the context ends. It answers from the start, so that a driver that never comes is noticed, too.
func run(ctx context.Context, given settings, listener net.Listener) error {
	of, err := driver.At(given.address)
	if err != nil {
		return err
	}
	defer func() { _ = of.Close() }()
	mux := http.NewServeMux()
	mux.Handle("/healthz", handler(of, given.timeout))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func handler(of *driver.Driver, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		ctx, cancel := context.WithTimeout(request.Context(), timeout)
		defer cancel()
		if err := of.Probe(ctx); err != nil {
			klog.ErrorS(err, "The driver is not well")
			http.Error(answer, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprint(answer, "ok")
	})
}
