// SPDX-License-Identifier: GPL-3.0-or-later

// Package fake has a CSI driver for tests.
package fake

import (
	"context"
	"net"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Driver has a name, and is well, busy or silent.
type Driver struct {
	csi.UnimplementedIdentityServer
	Called string
	Busy   bool
	Silent bool
}

// Serve has it answer at a path until the function that is returned is called.
func (d *Driver) Serve(path string) (func(), error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, d)
	go func() { _ = server.Serve(listener) }()
	return server.Stop, nil
}

// GetPluginInfo says the name.
func (d *Driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.Called, VendorVersion: "1"}, nil
}

// Probe says how it is.
func (d *Driver) Probe(ctx context.Context, _ *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	if d.Silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if d.Busy {
		return &csi.ProbeResponse{Ready: wrapperspb.Bool(false)}, nil
	}
	return &csi.ProbeResponse{}, nil
}
