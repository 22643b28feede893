// SPDX-License-Identifier: GPL-3.0-or-later

// The registrar of a CSI driver's node service: it tells the kubelet what the driver is called and where its socket is.
// It stands in for kubernetes-csi/node-driver-registrar, under its name and with its flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"kos.labs/components/csi/internal/driver"
)

// Set when linking.
var version = "unknown"

type settings struct {
	// Where the driver is for us, and where it is for the kubelet.
	address, kubeletPath string
	// The folder that the kubelet watches.
	folder   string
	endpoint string
	timeout  time.Duration
}

func main() {
	klog.InitFlags(nil)
	var given settings
	flag.StringVar(&given.address, "csi-address", "/run/csi/socket", "Socket of the CSI driver.")
	flag.StringVar(&given.kubeletPath, "kubelet-registration-path", "", "Path of the driver's socket as the kubelet sees it.")
	flag.StringVar(&given.folder, "plugin-registration-path", "/registration", "Folder that the kubelet watches for sockets like ours.")
	flag.StringVar(&given.endpoint, "http-endpoint", "", "Address and port on which /healthz is served; none if it is empty.")
	flag.DurationVar(&given.timeout, "timeout", 30*time.Second, "How long to wait for the driver.")
	mode := flag.String("mode", "registration", "Only registration is known.")
	show := flag.Bool("version", false, "Print the version and end.")
	flag.Parse()
	if *show {
		fmt.Println(os.Args[0], version)
		return
	}
	if *mode != "registration" {
		klog.Exitf("--mode=%s is not known; a kubelet can ask /healthz of --http-endpoint instead", *mode)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, given); err != nil {
		klog.Exit(err)
	}
}

// run offers the driver to the kubelet until the context ends or the kubelet refuses it.
func run(ctx context.Context, given settings) error {
	if given.kubeletPath == "" {
		return errors.New("--kubelet-registration-path is missing")
	}
	name, err := nameOf(ctx, given)
	if err != nil {
		return fmt.Errorf("the driver at %s does not answer: %w", given.address, err)
	}
	socket := filepath.Join(given.folder, name+"-reg.sock")
	// One that was killed has left it.
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := listen(socket)
	if err != nil {
		return err
	}
	refused := make(chan error, 1)
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, &registrar{
		info: &registration.PluginInfo{
			Type:              registration.CSIPlugin,
			Name:              name,
			Endpoint:          given.kubeletPath,
			SupportedVersions: []string{"1.0.0"},
		},
		refused: refused,
	})
	if given.endpoint != "" {
		stop, err := serveHealth(given.endpoint, socket)
		if err != nil {
			_ = listener.Close()
			return err
		}
		defer stop()
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	klog.InfoS("Waiting for the kubelet", "version", version, "driver", name, "socket", socket)
	// It removes the socket, too, by which the kubelet learns that the driver has gone.
	defer server.Stop()
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	case err := <-refused:
		// The answer has still to leave.
		server.GracefulStop()
		return err
	}
}

func nameOf(ctx context.Context, given settings) (string, error) {
	of, err := driver.At(given.address)
	if err != nil {
		return "", err
	}
	defer func() { _ = of.Close() }()
	ctx, cancel := context.WithTimeout(ctx, given.timeout)
	defer cancel()
	return of.Name(ctx)
}

// listen makes a socket that nobody but its owner may use.
func listen(socket string) (net.Listener, error) {
	before := syscall.Umask(0o077)
	defer syscall.Umask(before)
	return net.Listen("unix", socket)
}

func serveHealth(endpoint, socket string) (func(), error) {
	listener, err := net.Listen("tcp", endpoint)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(answer http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat(socket); err != nil {
			http.Error(answer, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprint(answer, "ok")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return func() { _ = server.Close() }, nil
}

type registrar struct {
	registration.UnimplementedRegistrationServer
	info    *registration.PluginInfo
	refused chan<- error
}

// GetInfo is asked when the kubelet has seen the socket.
func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return r.info, nil
}

// NotifyRegistrationStatus is how the kubelet says what became of it.
func (r *registrar) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if status.PluginRegistered {
		klog.InfoS("The kubelet knows the driver", "driver", r.info.Name)
	} else {
		// With the next start the kubelet tries again.
		select {
		case r.refused <- fmt.Errorf("the kubelet refused the driver %s: %s", r.info.Name, status.Error):
		default:
		}
	}
	return &registration.RegistrationStatusResponse{}, nil
}
