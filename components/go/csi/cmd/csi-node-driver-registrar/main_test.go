// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"kos.labs/components/csi/internal/fake"
)

const (
	name    = "example.csi.labs"
	kubelet = "/var/lib/kubelet/plugins/example/csi.sock"
)

type running struct {
	settings
	socket string
	stop   context.CancelFunc
	ended  chan error
}

// started runs the registrar beside a driver, unless there is to be none.
func started(t *testing.T, with *fake.Driver) *running {
	t.Helper()
	folder := t.TempDir()
	address := filepath.Join(folder, "csi.sock")
	if with != nil {
		stop, err := with.Serve(address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := free.Addr().String()
	_ = free.Close()
	given := settings{address: address, kubeletPath: kubelet, folder: folder, endpoint: endpoint, timeout: 2 * time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	it := &running{settings: given, socket: filepath.Join(folder, name+"-reg.sock"), stop: cancel, ended: make(chan error, 1)}
	go func() { it.ended <- run(ctx, given) }()
	t.Cleanup(cancel)
	return it
}

// asKubelet returns a client, as the kubelet becomes one when it sees the socket.
func (r *running) asKubelet(t *testing.T) registration.RegistrationClient {
	t.Helper()
	connection, err := grpc.NewClient("unix://"+r.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return registration.NewRegistrationClient(connection)
}

func (r *running) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
		return nil
	}
}

func TestTheKubeletLearnsNameAndSocket(t *testing.T) {
	it := started(t, &fake.Driver{Called: name})
	client := it.asKubelet(t)
	info, err := client.GetInfo(t.Context(), &registration.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if info.Type != registration.CSIPlugin || info.Name != name || info.Endpoint != kubelet || len(info.SupportedVersions) == 0 {
		t.Errorf("%v", info)
	}
	if _, err := client.NotifyRegistrationStatus(t.Context(), &registration.RegistrationStatus{PluginRegistered: true}); err != nil {
		t.Error(err)
	}
	if about, err := os.Stat(it.socket); err != nil || about.Mode().Perm()&0o077 != 0 {
		t.Errorf("%v %v", about, err)
	}
	answer, err := http.Get("http://" + it.endpoint + "/healthz")
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", answer, err)
	}
	_ = answer.Body.Close()
	it.stop()
	if err := it.end(t); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(it.socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestItEndsWhenTheKubeletRefuses(t *testing.T) {
	it := started(t, &fake.Driver{Called: name})
	refusal := &registration.RegistrationStatus{Error: "no such version"}
	if _, err := it.asKubelet(t).NotifyRegistrationStatus(t.Context(), refusal, grpc.WaitForReady(true)); err != nil {
		t.Errorf("the kubelet heard no answer: %v", err)
	}
	if err := it.end(t); err == nil || !strings.Contains(err.Error(), "no such version") {
		t.Errorf("%v", err)
	}
}

func TestASocketThatWasLeftIsReplaced(t *testing.T) {
	it := started(t, nil)
	if err := os.WriteFile(it.socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The driver may come after us.
	stop, err := (&fake.Driver{Called: name}).Serve(it.address)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	deadline, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	client := it.asKubelet(t)
	for {
		if _, err := client.GetInfo(deadline, &registration.InfoRequest{}); err == nil {
			return
		} else if deadline.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestItEndsWithASentenceWithoutADriver(t *testing.T) {
	if err := started(t, nil).end(t); err == nil || !strings.Contains(err.Error(), "csi.sock does not answer") {
		t.Errorf("%v", err)
	}
}
