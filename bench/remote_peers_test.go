package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/cluster"
	"github.com/asynkron/protoactor-go/cluster/identitylookup/disthash"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// rawCodec passes bytes through: what gRPC costs without a message format.
type rawCodec struct{}

var _ encoding.CodecV2 = rawCodec{}

func (rawCodec) Name() string { return "raw" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// bareService echoes with nothing but gRPC.
var bareService = grpc.ServiceDesc{
	ServiceName: "bench.Echo", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var b []byte
		return &b, decode(&b)
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		for {
			var b []byte
			if err := s.RecvMsg(&b); err != nil {
				return err
			}
			if err := s.SendMsg(&b); err != nil {
				return err
			}
		}
	}}},
}

func serveBare(tb testing.TB) (address string) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}))
	server.RegisterService(&bareService, nil)
	go func() { _ = server.Serve(listener) }()
	tb.Cleanup(server.Stop)
	return listener.Addr().String()
}

// openBareRemotes calls with nothing but gRPC, over one connection: each caller
// on a stream of its own, where it sends and receives in turn, and by unary
// calls.
func openBareRemotes(tb testing.TB, address string) []remoteKind {
	client := must(grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}))))
	tb.Cleanup(func() { _ = client.Close() })
	return []remoteKind{
		{"grpc-stream", false, func(ctx context.Context) (caller, error) {
			s, err := client.NewStream(ctx, &bareService.Streams[0], "/bench.Echo/Stream")
			return func(_ string, body []byte) (reply []byte, err error) {
				if err := s.SendMsg(&body); err != nil {
					return nil, err
				}
				err = s.RecvMsg(&reply)
				return reply, err
			}, err
		}},
		{"grpc-unary", false, func(ctx context.Context) (caller, error) {
			return func(_ string, body []byte) (reply []byte, err error) {
				err = client.Invoke(ctx, "/bench.Echo/Unary", &body, &reply)
				return reply, err
			}, nil
		}},
	}
}

// grainKind is what Proto.Actor's virtual actors are called.
const grainKind = "depot"

// fixedMember is a cluster of one member. The calling process is a client, and
// no member.
type fixedMember struct{ member *cluster.Member }

var _ cluster.ClusterProvider = (*fixedMember)(nil)

func (f *fixedMember) StartMember(c *cluster.Cluster) error {
	host, port, err := c.ActorSystem.GetHostPort()
	if err != nil {
		return err
	}
	f.member = &cluster.Member{Id: c.ActorSystem.ID, Host: host, Port: int32(port), Kinds: c.GetClusterKinds()}
	return f.StartClient(c)
}

func (f *fixedMember) StartClient(c *cluster.Cluster) error {
	c.MemberList.UpdateClusterTopology(cluster.Members{f.member})
	return nil
}

func (f *fixedMember) Shutdown(bool) error { return nil }

func newGrains(f *fixedMember, options ...cluster.ConfigOption) *cluster.Cluster {
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }))
	return cluster.New(system, cluster.Configure("bench", f, disthash.New(), remote.Configure("127.0.0.1", 0), options...))
}

// serveGrains returns the member's ID and address.
func serveGrains(tb testing.TB) (member string) {
	props := actor.PropsFromFunc(func(c actor.Context) {
		if m, ok := c.Message().(*wrapperspb.BytesValue); ok {
			c.Respond(m)
		}
	})
	f := &fixedMember{}
	grains := newGrains(f, cluster.WithKinds(cluster.NewKind(grainKind, props)))
	grains.StartMember()
	tb.Cleanup(func() { grains.Shutdown(false) })
	return fmt.Sprintf("%s@%s:%d", f.member.Id, f.member.Host, f.member.Port)
}

// openGrains asks virtual actors. It does what the cluster's own RequestFuture
// does, without that one's timers and log: find the actor in the cache of
// addresses, or else by its identity, and ask it.
func openGrains(tb testing.TB, member string) remoteKind {
	id, address, _ := strings.Cut(member, "@")
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		tb.Fatal(err)
	}
	grains := newGrains(&fixedMember{&cluster.Member{Id: id, Host: host, Port: int32(must(strconv.Atoi(port))), Kinds: []string{grainKind}}})
	grains.StartClient()
	tb.Cleanup(func() { // the cluster's own Shutdown is for members
		grains.ActorSystem.Shutdown()
		grains.Remote.Shutdown(false)
	})
	return remoteKind{"protoactor", true, func(context.Context) (caller, error) {
		return func(place string, body []byte) ([]byte, error) {
			pid, _ := grains.PidCache.Get(place, grainKind)
			if pid == nil {
				if pid = grains.Get(place, grainKind); pid == nil {
					return nil, fmt.Errorf("no actor for %q", place)
				}
				grains.PidCache.Set(place, grainKind, pid)
			}
			v, err := grains.ActorSystem.Root.RequestFuture(pid, wrapperspb.Bytes(body), -1).Result()
			if err != nil {
				return nil, err
			}
			return v.(*wrapperspb.BytesValue).GetValue(), nil
		}, nil
	}}
}
