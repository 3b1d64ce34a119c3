package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage/postgres"
	grpctransport "github.com/cruster-go/cruster/transport/grpc"
)

// parcelSize is how many bytes go each way.
const parcelSize = 64

// Depot is the entity that is called on another runner.
type Depot struct {
	_ cruster.Entity `cruster:"depot,mailbox=1000"`
}

// Parcel is its request and its reply.
type Parcel struct{ Body []byte }

// Echo is its method.
func (d *Depot) Echo(_ context.Context, p Parcel) (Parcel, error) { return p, nil }

// startDepot starts one of the two runners. They share a database, which says
// who is there, and which the calls do not touch.
func startDepot(tb testing.TB, dsn string, weight int) (cruster.Client[*Depot], *cruster.Service) {
	store := must(postgres.New(openPool(tb, dsn, 4), &postgres.Options{AutoMigrate: true}))
	tb.Cleanup(func() { _ = store.Close() })
	link := must(grpctransport.New(grpctransport.Options{Listen: "127.0.0.1:0"}))
	var depots cruster.Client[*Depot]
	svc := start(tb, cruster.Config{Storage: store, Transport: link, Weight: weight}, func(s *cruster.Service) {
		depots = must(cruster.Register(s, &Depot{}))
	})
	return depots, svc
}

// caller asks one of many places to send a body back.
type caller func(place string, body []byte) (reply []byte, err error)

// remoteKind is one way to reach another process. Each caller opens its own.
type remoteKind struct {
	name string
	hot  bool // has places, so that all may want the same one
	open func(ctx context.Context) (caller, error)
}

// openRemotes connects to the serving process in every way.
func openRemotes(tb testing.TB) (*remoteProcess, []remoteKind) {
	dsn := database(tb)
	p := startRemoteProcess(tb, dsn)
	depots, _ := startDepot(tb, dsn, -1)
	kinds := []remoteKind{{"cruster", true, func(ctx context.Context) (caller, error) {
		return func(place string, body []byte) ([]byte, error) {
			reply, err := cruster.Call(ctx, depots.Entity(place), (*Depot).Echo, Parcel{body})
			return reply.Body, err
		}, nil
	}}}
	kinds = append(kinds, openGrains(tb, p.served.Grains))
	return p, append(kinds, openBareRemotes(tb, p.served.Bare)...)
}

// BenchmarkRemote is a call of an entity that lives in another process, over
// loopback.
func BenchmarkRemote(b *testing.B) {
	p, kinds := openRemotes(b)
	for _, c := range []struct {
		name              string
		callers, entities int
	}{{"callers=1", 1, 1000}, {"callers=64", 64, 1000}, {"callers=256", 256, 1000}, {"callers=64,hot", 64, 1}} {
		places := entityIDs(c.entities)
		b.Run(c.name, func(b *testing.B) {
			for _, k := range kinds {
				if c.entities > 1 || k.hot {
					b.Run(k.name, func(b *testing.B) { measureRemote(b, p, k, c.callers, places) })
				}
			}
		})
	}
}

// measureRemote spreads b.N calls over callers, and reports what they cost both
// processes.
func measureRemote(b *testing.B, p *remoteProcess, k remoteKind, callers int, places []string) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	defer cancel()
	calls, took := make([]caller, callers), make([][]time.Duration, callers)
	for i := range calls {
		call, err := k.open(ctx)
		if err != nil {
			b.Fatal(err)
		}
		calls[i] = call
		took[i] = make([]time.Duration, 0, 2*b.N/callers+1024)
	}
	if err := visitAll(calls, places); err != nil {
		b.Fatal(err)
	}
	total := int64(max(b.N, callers))
	var next atomic.Int64
	var running sync.WaitGroup
	server, client := p.spent(b), spentHere()
	b.ResetTimer()
	for i, call := range calls {
		running.Go(func() {
			body := make([]byte, parcelSize)
			for n := i * 16; next.Add(1) <= total; n++ {
				began := time.Now()
				if _, err := call(places[n%len(places)], body); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	running.Wait()
	b.StopTimer()
	client, server = spentHere().since(client), p.spent(b).since(server)
	all := slices.Concat(took...)
	n := float64(len(all))
	if n == 0 {
		return
	}
	slices.Sort(all)
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	b.ReportMetric(b.Elapsed().Seconds()*1e9/n, "ns/op")
	b.ReportMetric(n/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(micros(all[len(all)/2]), "p50-us")
	b.ReportMetric(micros(all[len(all)*99/100]), "p99-us")
	b.ReportMetric(float64(client.Allocs)/n, "client-allocs/op")
	b.ReportMetric(float64(server.Allocs)/n, "server-allocs/op")
	b.ReportMetric(micros(client.CPU)/n, "client-us/op")
	b.ReportMetric(micros(server.CPU)/n, "server-us/op")
}

// visitAll calls every place once, and has every caller call once, so that
// entities are in memory and connections are there.
func visitAll(calls []caller, places []string) error {
	for i := range max(len(calls), len(places)) {
		body := fmt.Appendf(nil, "%0*d", parcelSize, i)
		reply, err := calls[i%len(calls)](places[i%len(places)], body)
		if err != nil {
			return err
		}
		if string(reply) != string(body) {
			return fmt.Errorf("call %d was answered with %q", i, reply)
		}
	}
	return nil
}

// spent is what a process has used since it began.
type spent struct {
	Allocs uint64
	CPU    time.Duration
}

func (s spent) since(before spent) spent {
	return spent{s.Allocs - before.Allocs, s.CPU - before.CPU}
}

func spentHere() spent {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return spent{m.Mallocs, time.Duration(r.Utime.Nano() + r.Stime.Nano())}
}

// TestRemote checks that every way to reach the other process does, from several
// callers at a time, and that the answer is the one to the question.
func TestRemote(t *testing.T) {
	t.Parallel()
	p, kinds := openRemotes(t)
	before := p.spent(t)
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			var running sync.WaitGroup
			for i := range 4 {
				running.Go(func() {
					call, err := k.open(t.Context())
					if err == nil {
						err = visitAll([]caller{call}, []string{"shared", "own-" + strconv.Itoa(i)})
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			running.Wait()
		})
	}
	if after := p.spent(t).since(before); after.Allocs == 0 || after.CPU == 0 {
		t.Errorf("the serving process has spent %+v", after)
	}
}
