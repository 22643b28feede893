// SPDX-License-Identifier: GPL-3.0-or-later

// Package driver asks a CSI driver, by its socket, who it is and whether it is well.
package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// ErrNotReady is what a driver says that is still busy with its start.
var ErrNotReady = errors.New("the driver is not ready yet")

// Driver is a CSI driver behind a socket, which may come and go.
type Driver struct {
	connection *grpc.ClientConn
	identity   csi.IdentityClient
}

// At returns the driver at an address, a path or unix://PATH, without asking it anything yet.
func At(address string) (*Driver, error) {
	if path := strings.TrimPrefix(address, "unix://"); strings.HasPrefix(path, "/") {
		address = "unix://" + path
	} else {
		return nil, fmt.Errorf("%s is neither an absolute path of a socket nor unix:// with one", address)
	}
	// A driver that restarts is found again within a second.
	soon := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: time.Second,
	}
	connection, err := grpc.NewClient(
		address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(soon),
		grpc.WithIdleTimeout(0),
		grpc.WithAuthority("localhost"),
	)
	if err != nil {
		return nil, err
	}
	return &Driver{connection: connection, identity: csi.NewIdentityClient(connection)}, nil
}

// Name waits until the driver says its name.
func (d *Driver) Name(ctx context.Context) (string, error) {
	info, err := d.identity.GetPluginInfo(ctx, &csi.GetPluginInfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return "", err
	}
	if info.GetName() == "" {
		return "", errors.New("the driver says no name")
	}
	return info.GetName(), nil
}

// Probe returns nil if the driver is well.
func (d *Driver) Probe(ctx context.Context) error {
	answer, err := d.identity.Probe(ctx, &csi.ProbeRequest{})
	if err != nil {
		return err
	}
	// A driver that leaves this out is ready.
	if ready := answer.GetReady(); ready != nil && !ready.GetValue() {
		return ErrNotReady
	}
	return nil
}

// Close ends the connection.
func (d *Driver) Close() error {
	return d.connection.Close()
}
