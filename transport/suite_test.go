package transport_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/cruster-go/cruster/transport"
	"github.com/cruster-go/cruster/transport/transporttest"
)

func TestNetworkContract(t *testing.T) {
	t.Parallel()
	transporttest.RunVirtual(t, func(transporttest.TB) transporttest.Harness {
		n, made := transport.NewNetwork(1), 0
		quiet := func(o transport.Options) transport.Options {
			o.Logger = slog.New(slog.DiscardHandler)
			return o
		}
		return transporttest.Harness{
			New: func(_ transporttest.TB, address string, o transport.Options) transport.Transport {
				if address == "" {
					made++
					address = fmt.Sprintf("runner-%d", made)
				}
				return n.Transport(address, quiet(o))
			},
			Client: func(_ transporttest.TB, o transport.Options) transport.Transport {
				made++
				return n.Client(fmt.Sprintf("client-%d", made), quiet(o))
			},
			Nowhere: "nowhere",
		}
	})
}
