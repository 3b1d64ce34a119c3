package grpctransport_test

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cruster-go/cruster/transport"
	grpctransport "github.com/cruster-go/cruster/transport/grpc"
	"github.com/cruster-go/cruster/transport/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet(o transport.Options) transport.Options {
	o.Logger = slog.New(slog.DiscardHandler)
	return o
}

// patient lets tests pass on a machine that is busy with others.
func patient(o transport.Options) transport.Options {
	o.DialTimeout = time.Minute
	if o.Silence == 0 {
		o.Silence = time.Minute
	}
	return o
}

func open(t transporttest.TB, o grpctransport.Options) transport.Transport {
	t.Helper()
	o.Limits = patient(quiet(o.Limits))
	tr, err := grpctransport.New(o)
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	return tr
}

func TestContract(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, func(transporttest.TB) transporttest.Harness {
		return transporttest.Harness{
			New: func(t transporttest.TB, address string, o transport.Options) transport.Transport {
				if address == "" {
					address = "127.0.0.1:0"
				}
				return open(t, grpctransport.Options{Listen: address, Limits: o})
			},
			Client: func(t transporttest.TB, o transport.Options) transport.Transport {
				return open(t, grpctransport.Options{Limits: o})
			},
			Nowhere: "127.0.0.1:1",
		}
	})
}
