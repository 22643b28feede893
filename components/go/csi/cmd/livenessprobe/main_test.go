// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"kos.labs/components/csi/internal/fake"
)

// started runs the probe of a socket and returns a question to it.
func started(t *testing.T, socket string) func() (int, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, settings{address: socket, timeout: 500 * time.Millisecond}, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	return func() (int, string) {
		answer, err := http.Get("http://" + listener.Addr().String() + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(body)
	}
}

func TestItSaysHowTheDriverIs(t *testing.T) {
	for name, each := range map[string]struct {
		with *fake.Driver
		code int
	}{
		"well":   {&fake.Driver{}, http.StatusOK},
		"busy":   {&fake.Driver{Busy: true}, http.StatusInternalServerError},
		"silent": {&fake.Driver{Silent: true}, http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "csi.sock")
			stop, err := each.with.Serve(socket)
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			if code, body := started(t, socket)(); code != each.code {
				t.Errorf("%d %s", code, body)
			}
		})
	}
}

func TestADriverThatComesLateOrAgainIsFound(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "csi.sock")
	ask := started(t, socket)
	for range 2 {
		if code, _ := ask(); code != http.StatusInternalServerError {
			t.Fatalf("%d without a driver", code)
		}
		stop, err := (&fake.Driver{}).Serve(socket)
		if err != nil {
			t.Fatal(err)
		}
		limit := time.Now().Add(10 * time.Second)
		for code, body := ask(); code != http.StatusOK; code, body = ask() {
			if time.Now().After(limit) {
				t.Fatalf("%d %s with a driver", code, body)
			}
			time.Sleep(50 * time.Millisecond)
		}
		stop()
	}
}
