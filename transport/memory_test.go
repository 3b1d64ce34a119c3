package transport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport"
)

// echo answers with the request's body; op 1 waits for the end of the request.
type echo struct{ connected chan transport.Hello }

func (e *echo) Call(ctx context.Context, _ transport.Hello, op transport.Op, body []byte) ([]byte, error) {
	if op == 1 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return body, nil
}

func (e *echo) Stream(_ context.Context, _ transport.Hello, _ transport.Op, body []byte, send func([]byte) error) error {
	for i := range 1000 {
		if err := send(fmt.Appendf(nil, "%s %d", body, i)); err != nil {
			return err
		}
	}
	return nil
}

func (e *echo) Connected(h transport.Hello) {
	select {
	case e.connected <- h:
	default:
	}
}

// start starts a transport of the network that is closed with the test.
func start(t *testing.T, n *transport.Network, address string) transport.Transport {
	t.Helper()
	tr := n.Transport(address, transport.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := tr.Start(t.Context(), transport.Hello{Cluster: "test", Address: address, Incarnation: 1}, &echo{connected: make(chan transport.Hello, 16)}); err != nil {
		t.Fatalf("Start = %v", err)
	}
	t.Cleanup(func() { closeNow(t, tr) })
	return tr
}

func closeNow(t *testing.T, tr transport.Transport) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := tr.Close(ctx); err != nil {
		t.Errorf("Close = %v", err)
	}
}

func wantError(t *testing.T, err error, code crustertype.Code, executed bool) {
	t.Helper()
	var e *crustertype.Error
	if !errors.As(err, &e) || e.Code != code || e.Executed != executed {
		t.Errorf("error %v (code %v), want code %v with Executed %v", err, crustertype.CodeOf(err), code, executed)
	}
}

func TestNetworkEcho(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := transport.NewNetwork(1)
		a, b := start(t, n, "a"), start(t, n, "b")
		for _, size := range []int{0, 1, 1000, 1 << 20} {
			body := bytes.Repeat([]byte{7}, size)
			for _, c := range []struct {
				tr transport.Transport
				to string
			}{{a, "b"}, {b, "a"}, {a, "a"}} {
				got, err := c.tr.Call(t.Context(), c.to, 0, body)
				if err != nil || !bytes.Equal(got, body) {
					t.Fatalf("Call with %d bytes to %s = %d bytes, %v", size, c.to, len(got), err)
				}
			}
		}
		i := 0
		for chunk, err := range a.Stream(t.Context(), "b", 0, []byte("n")) {
			if want := fmt.Sprintf("n %d", i); err != nil || string(chunk) != want {
				t.Fatalf("chunk %d is %q, %v, want %q", i, chunk, err, want)
			}
			i++
		}
		if i != 1000 {
			t.Errorf("stream had %d chunks, want 1000", i)
		}
	})
}

func TestNetworkPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := transport.NewNetwork(1)
		a, _ := start(t, n, "a"), start(t, n, "b")
		if _, err := a.Call(t.Context(), "b", 0, nil); err != nil {
			t.Fatal(err)
		}
		n.Cut("b", "a")
		began := time.Now()
		_, err := a.Call(t.Context(), "b", 0, nil)
		wantError(t, err, crustertype.CodeUnavailable, true)
		if d := time.Since(began); d != 4*time.Second {
			t.Errorf("silent peer was found after %v, want 4s", d)
		}
		began = time.Now()
		_, err = a.Call(t.Context(), "b", 0, nil)
		wantError(t, err, crustertype.CodeUnavailable, false)
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("dialling across the cut failed after %v, want 5s", d)
		}
		n.Heal()
		time.Sleep(time.Second)
		if _, err := a.Call(t.Context(), "b", 0, nil); err != nil {
			t.Errorf("Call after Heal = %v", err)
		}
		n.Partition([]string{"a"}, []string{"b"})
		time.Sleep(time.Second)
		done := make(chan error)
		go func() {
			_, err := a.Call(t.Context(), "b", 0, nil)
			done <- err
		}()
		time.Sleep(time.Second)
		n.Heal()
		if err := <-done; err != nil {
			t.Errorf("Call over a short partition = %v, want it to be late only", err)
		}
	})
}

func TestNetworkKill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := transport.NewNetwork(1)
		a, b := start(t, n, "a"), start(t, n, "b")
		done := make(chan error)
		go func() {
			_, err := a.Call(t.Context(), "b", 1, nil)
			done <- err
		}()
		synctest.Wait()
		n.Kill("b")
		synctest.Wait()
		wantError(t, <-done, crustertype.CodeUnavailable, true)
		_, err := a.Call(t.Context(), "b", 0, nil)
		wantError(t, err, crustertype.CodeUnavailable, false)
		_, err = b.Call(t.Context(), "a", 0, nil)
		wantError(t, err, crustertype.CodeUnavailable, false)
		again := start(t, n, "b")
		time.Sleep(20 * time.Millisecond)
		if _, err := a.Call(t.Context(), "b", 0, nil); err != nil {
			t.Errorf("Call to the restarted peer = %v", err)
		}
		if _, err := again.Call(t.Context(), "a", 0, nil); err != nil {
			t.Errorf("Call of the restarted peer = %v", err)
		}
	})
}

func TestNetworkFaults(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (failed int) {
		synctest.Test(t, func(t *testing.T) {
			n := transport.NewNetwork(seed)
			n.SetFaults(transport.Faults{Delay: time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.02, Late: 0.1, Duplicate: 0.2})
			a, _ := start(t, n, "a"), start(t, n, "b")
			for i := range 300 {
				body := fmt.Append(nil, i)
				got, err := a.Call(t.Context(), "b", 0, body)
				switch {
				case err != nil:
					failed++
					if crustertype.CodeOf(err) != crustertype.CodeUnavailable {
						t.Fatalf("Call = %v, want ErrUnavailable", err)
					}
					time.Sleep(20 * time.Millisecond)
				case !bytes.Equal(got, body):
					t.Fatalf("Call %d = %q", i, got)
				}
			}
		})
		return failed
	}
	if failed := run(7); failed == 0 || failed > 60 {
		t.Errorf("%d of 300 calls failed, want about 12", failed)
	}
}
