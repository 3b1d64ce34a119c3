package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cruster-go/cruster/membership"
)

// Parts of a TTL.
const (
	keepEvery  = 3   // a keepalive is due a third of a TTL after the last
	firstTry   = 8   // the first try may take so long, later ones twice as long
	firstRetry = 100 // wait after a failure, doubled each time up to maxRetry
	maxRetry   = 10
	lookGap    = 10 // lists that were asked for by a hint are at least so far apart
)

// keep keeps the lease alive until the end of the session.
func (s *session) keep() {
	defer s.running.Done()
	defer s.release()
	tries := 0
	next := s.Kept().Add(s.ttl / keepEvery)
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.tidy:
			s.freeStray()
			continue
		case <-timer.C:
		}
		if sent, err := s.attempt(tries); err == nil {
			tries, next = 0, sent.Add(s.ttl/keepEvery)
			s.freeStray()
		} else {
			next = time.Now().Add(s.pause(tries))
			tries++
		}
		timer.Reset(time.Until(next))
	}
}

// release revokes the lease of a session whose record somebody deleted: its
// locks hang on that.
func (s *session) release() {
	if !errors.Is(s.Err(), errRevoked) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), s.ttl/firstTry)
	defer cancel()
	if err := s.b.revoke(ctx, s.lease); err != nil {
		s.b.log.Warn("a lease was left behind; it runs out", "incarnation", int64(s.self.Incarnation), "error", err)
	}
}

// attempt keeps the lease alive once, in bounded time: a request that hangs
// leaves time for another one, and a slow etcd is waited for longer each time.
func (s *session) attempt(tries int) (sent time.Time, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.ttl/firstTry<<min(tries, 10))
	defer cancel()
	if sent, err = s.keepOnce(ctx); err == nil {
		s.granted(sent)
		err = s.check(ctx)
	}
	switch {
	case err == nil || s.ctx.Err() != nil:
	case errors.Is(err, errRevoked), errors.Is(err, errRestored):
		s.end(err)
	default:
		s.b.log.Warn("the lease was not kept alive, or not looked after", "incarnation", int64(s.self.Incarnation), "try", tries+1, "left", time.Until(s.Kept().Add(s.ttl)), "error", err)
	}
	return sent, err
}

// keepOnce sends one keepalive. The client has its own ways of doing so; one
// does not tell when it sent, the other repeats without pause while etcd is
// away.
func (s *session) keepOnce(ctx context.Context) (sent time.Time, err error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	stream, err := clientv3.RetryLeaseClient(s.b.client).LeaseKeepAlive(ctx)
	if err != nil {
		return sent, rpctypes.Error(err)
	}
	sent = time.Now()
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(s.lease)}); err != nil {
		return sent, rpctypes.Error(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		return sent, rpctypes.Error(err)
	}
	if resp.TTL <= 0 {
		return sent, errRevoked
	}
	return sent, nil
}

// check reads the session's own record: a keepalive may be answered by an etcd
// that has been restored, to a time when the lease was there.
func (s *session) check(ctx context.Context) error {
	before := s.b.mark()
	resp, err := s.b.client.Get(ctx, s.key)
	if err != nil {
		return fmt.Errorf("read the runner record: %w", err)
	}
	now := mark{resp.Header.ClusterId, resp.Header.Revision}
	behind := s.b.note(before, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case behind || s.view.cluster != now.cluster:
		return errRestored
	case len(resp.Kvs) == 0 || resp.Kvs[0].Lease != int64(s.lease):
		return errRevoked
	}
	return nil
}

// pause returns how long to wait after a failure.
func (s *session) pause(tries int) time.Duration {
	d := min(s.ttl/firstRetry<<min(tries, 10), s.ttl/maxRetry)
	return d/2 + rand.N(d)
}

// granted notes a keepalive. It counts from when it was sent.
func (s *session) granted(sent time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || sent.Before(s.kept) {
		return
	}
	s.kept = sent
	left := time.Until(sent.Add(s.ttl))
	if s.expiry == nil {
		s.expiry = time.AfterFunc(left, s.expire)
	} else {
		s.expiry.Reset(left)
	}
}

// expire ends the session, unless it was kept alive just now.
func (s *session) expire() {
	if past := time.Since(s.Kept()); past >= s.ttl {
		s.end(fmt.Errorf("%w: no keepalive was granted for %s", membership.ErrExpired, past))
	}
}
