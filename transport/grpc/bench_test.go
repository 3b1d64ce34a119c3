package grpctransport_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/cruster-go/cruster/transport"
	grpctransport "github.com/cruster-go/cruster/transport/grpc"
)

// The benchmarks compare a call with what gRPC itself offers: a stream of one's
// own for each caller, on which he sends and receives in turn, and unary calls.
// With CRUSTER_BENCH_SPLIT=1 the server is a process of its own.

const benchBody = 64

// echoHandler answers with what it was sent.
type echoHandler struct{}

func (echoHandler) Call(_ context.Context, _ transport.Hello, _ transport.Op, body []byte) ([]byte, error) {
	return body, nil
}

func (echoHandler) Stream(context.Context, transport.Hello, transport.Op, []byte, func([]byte) error) error {
	return nil
}

func (echoHandler) Connected(transport.Hello) {}

// rawCodec passes bytes through.
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

// benchServers starts the three servers and returns their addresses.
func benchServers(tb testing.TB) (cruster, bare string) {
	tr, err := grpctransport.New(grpctransport.Options{Listen: "127.0.0.1:0", Limits: quiet(transport.Options{})})
	if err != nil {
		tb.Fatal(err)
	}
	ctx := context.WithoutCancel(tb.Context())
	if err := tr.Start(ctx, transport.Hello{Cluster: "bench", Address: tr.Address(), Incarnation: 1}, echoHandler{}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = tr.Close(ctx) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}))
	server.RegisterService(&bareService, nil)
	go func() { _ = server.Serve(listener) }()
	tb.Cleanup(server.Stop)
	return tr.Address(), listener.Addr().String()
}

// TestBenchServer is the server's process.
func TestBenchServer(t *testing.T) {
	if os.Getenv("CRUSTER_BENCH_SERVER") == "" {
		t.Skip("only in a process that a benchmark starts")
	}
	cruster, bare := benchServers(t)
	fmt.Println("serving", cruster, bare)
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the benchmark ends
}

// benchTargets returns the addresses of servers here or in another process.
func benchTargets(b *testing.B) (cruster, bare string) {
	if os.Getenv("CRUSTER_BENCH_SPLIT") == "" {
		return benchServers(b)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), self, "-test.run=^TestBenchServer$")
	cmd.Env = append(os.Environ(), "CRUSTER_BENCH_SERVER=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if _, err := fmt.Fscanln(out, new(string), &cruster, &bare); err != nil {
		b.Fatal(err)
	}
	return cruster, bare
}

func BenchmarkEcho(b *testing.B) {
	crusterAt, bareAt := benchTargets(b)
	ctx := context.WithoutCancel(b.Context())

	tr, err := grpctransport.New(grpctransport.Options{Listen: "127.0.0.1:0", Limits: quiet(transport.Options{})})
	if err != nil {
		b.Fatal(err)
	}
	if err := tr.Start(ctx, transport.Hello{Cluster: "bench", Address: tr.Address(), Incarnation: 2}, echoHandler{}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = tr.Close(ctx) })
	client, err := grpc.NewClient(bareAt, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })

	// Each kind returns what one caller calls.
	kinds := []struct {
		name string
		open func(ctx context.Context) (func(body []byte) error, error)
	}{
		{"cruster", func(context.Context) (func([]byte) error, error) {
			return func(body []byte) error {
				_, err := tr.Call(ctx, crusterAt, 1, body)
				return err
			}, nil
		}},
		{"stream", func(ctx context.Context) (func([]byte) error, error) {
			s, err := client.NewStream(ctx, &bareService.Streams[0], "/bench.Echo/Stream")
			return func(body []byte) error {
				if err := s.SendMsg(&body); err != nil {
					return err
				}
				var reply []byte
				return s.RecvMsg(&reply)
			}, err
		}},
		{"unary", func(context.Context) (func([]byte) error, error) {
			return func(body []byte) error {
				var reply []byte
				return client.Invoke(ctx, "/bench.Echo/Unary", &body, &reply)
			}, nil
		}},
	}
	for _, callers := range []int{1, 64, 256} {
		for _, k := range kinds {
			b.Run(fmt.Sprintf("%s/callers=%d", k.name, callers), func(b *testing.B) { benchCallers(b, callers, k.open) })
		}
	}
}

// benchCallers spreads b.N calls over callers, and reports the median latency.
func benchCallers(b *testing.B, callers int, open func(context.Context) (func([]byte) error, error)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	defer cancel()
	calls := make([]func([]byte) error, callers)
	for i := range calls {
		call, err := open(ctx)
		if err == nil {
			err = call(make([]byte, benchBody))
		}
		if err != nil {
			b.Fatal(err)
		}
		calls[i] = call
	}
	var next atomic.Int64
	took := make([][]time.Duration, callers)
	for i := range took {
		took[i] = make([]time.Duration, 0, b.N/callers+1)
	}
	b.ReportAllocs()
	b.ResetTimer()
	used := cpuTime()
	var all sync.WaitGroup
	for i, call := range calls {
		all.Go(func() {
			body := make([]byte, benchBody)
			for next.Add(1) <= int64(b.N) {
				began := time.Now()
				if err := call(body); err != nil {
					b.Error(err)
					return
				}
				if len(took[i]) < cap(took[i]) {
					took[i] = append(took[i], time.Since(began))
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	if used = cpuTime() - used; used > 0 {
		b.ReportMetric(float64(used.Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
	}
	list := slices.Concat(took...)
	slices.Sort(list)
	b.ReportMetric(float64(list[len(list)/2].Nanoseconds())/1000, "p50-µs")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
