package transport

import (
	"encoding/binary"
	"fmt"

	"github.com/cruster-go/cruster/crustertype"
)

// The versions of the frame protocol that this package speaks. Two sides use
// the highest that both do, so that runners of neighbouring releases work
// together.
const (
	minProtocol = 1
	maxProtocol = 1
)

const (
	maxCluster = 256
	maxAddress = 512
)

// greeting is the payload of a frame of kindHello.
type greeting struct {
	min, max uint64 // versions of the protocol; these two fields never change
	hello    Hello
	maxBody  uint64 // the largest body that the sender takes
}

func (g *greeting) encode(b []byte) []byte {
	for _, v := range []uint64{g.min, g.max, g.maxBody, uint64(g.hello.Incarnation)} {
		b = binary.AppendUvarint(b, v)
	}
	for _, s := range []string{g.hello.Cluster, g.hello.Address} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

// decodeGreeting reads a greeting. When no version is common, the versions are
// all it reads. What follows the last field is left for later versions.
func decodeGreeting(b []byte) (greeting, error) {
	r := reader{b: b}
	g := greeting{min: r.uvarint("lowest protocol version"), max: r.uvarint("highest protocol version")}
	if r.err != nil {
		return greeting{}, r.err
	}
	if g.min > g.max {
		return greeting{}, fmt.Errorf("%w: protocol versions %d to %d", ErrMalformed, g.min, g.max)
	}
	if !g.compatible() {
		return g, nil
	}
	g.maxBody = r.uvarint("body limit")
	incarnation := r.uvarint("incarnation")
	g.hello.Cluster, g.hello.Address = r.text("cluster name", maxCluster), r.text("address", maxAddress)
	if r.err != nil {
		return greeting{}, r.err
	}
	if incarnation > 1<<63-1 {
		return greeting{}, fmt.Errorf("%w: incarnation %d is out of range", ErrMalformed, incarnation)
	}
	g.hello.Incarnation = crustertype.Incarnation(incarnation)
	return g, nil
}

func (g *greeting) compatible() bool { return g.max >= minProtocol && g.min <= maxProtocol }

// objection returns why a runner of the given cluster does not talk to the
// sender of g, or nil. It names the cause and the cure, and goes to both sides.
func (g *greeting) objection(cluster string) *crustertype.Error {
	switch {
	case !g.compatible():
		return crustertype.Errorf(crustertype.CodeForbidden,
			"protocol versions %d to %d on one side, %d to %d on the other, have none in common: upgrade the runners in steps of one release",
			g.min, g.max, uint64(minProtocol), uint64(maxProtocol))
	case g.hello.Cluster != cluster:
		return crustertype.Errorf(crustertype.CodeForbidden,
			"a runner of cluster %q does not talk to one of cluster %q: check the address, or give both the same cluster name", cluster, g.hello.Cluster)
	}
	return nil
}
